"""Scenes and the groups they fall into. Nothing elsewhere knows how many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Taxonomy:
    """Scenes in a fixed (alphabetical) order, groups in a fixed order, and each scene's group."""

    scenes: tuple[str, ...]
    groups: tuple[str, ...]
    group_of_scene: tuple[int, ...]  # index into `groups`, one per scene; empty where there are no groups

    @classmethod
    def from_groups(cls, members: Mapping[str, Sequence[str]]) -> "Taxonomy":
        """Build from {group: [scene, ...]}. Raises ValueError where a scene has two groups or none is given."""
        group_of: dict[str, str] = {}
        for group, scenes in members.items():
            for scene in scenes:
                if scene in group_of:
                    raise ValueError(f"taxonomy: scene '{scene}' is in both '{group_of[scene]}' and '{group}'")
                group_of[scene] = group
        scenes = cls.from_scenes(tuple(group_of)).scenes
        groups = tuple(sorted(members))
        return cls(scenes, groups, tuple(groups.index(group_of[scene]) for scene in scenes))

    @classmethod
    def from_scenes(cls, scenes: Sequence[str]) -> "Taxonomy":
        """Scenes without groups. Raises ValueError where one is named twice, or fewer than two are."""
        if len(scenes) < 2:
            raise ValueError("taxonomy: at least two scenes are needed")
        twice = next((scene for scene in scenes if scenes.count(scene) > 1), None)
        if twice is not None:
            raise ValueError(f"taxonomy: scene '{twice}' is named twice")
        return cls(tuple(sorted(scenes)), (), ())

    def index(self, scene: str) -> int:
        """The scene's place among the scenes: its class."""
        return self.scenes.index(scene)


# PAPER 2.2 and the TAU data sets: ten scenes in three groups.
TAU_GROUPS: Mapping[str, tuple[str, ...]] = {
    "indoor": ("airport", "metro_station", "shopping_mall"),
    "outdoor": ("park", "public_square", "street_pedestrian", "street_traffic"),
    "transportation": ("bus", "metro", "tram"),
}
