"""What a run holds in memory: numpy arrays, which Ray's object store shares between processes without copying."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.store import FeatureSet
from features.taxonomy import Taxonomy
from models.specs import Spec


@dataclass(frozen=True)
class Member:
    """One snapshot of a teacher."""

    model: Spec
    weights: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Split:
    """A split of the corpus."""

    static: NDArray[np.float16]  # (clip, mel, frame)
    scene: NDArray[np.int64]  # (clip,)
    devices: tuple[str, ...]
    locations: tuple[str, ...]
    paths: tuple[str, ...]
    recordings: int  # so many rows are recordings; extra copies of them follow
    soft_scene: NDArray[np.float32] | None = None  # (clip, scene) log-scores
    soft_group: NDArray[np.float32] | None = None  # (clip, group)
    teachers: tuple[tuple[Member, ...], ...] = ()  # who labels batches online: each teacher's snapshots
    # Of the scene and of the group classifier: online labels are divided by them.
    temperatures: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, features: FeatureSet, taxonomy: Taxonomy) -> "Split":
        """The split of a set of features, its scenes as indices of the taxonomy."""
        clips = features.clips
        return cls(
            static=features.static,
            scene=np.array([taxonomy.index(clip.scene) for clip in clips], np.int64),
            devices=tuple(clip.device for clip in clips),
            locations=tuple(clip.location for clip in clips),
            paths=tuple(clip.path for clip in clips),
            recordings=len(clips),
        )

    def with_copies(self, copies: Sequence["Split"]) -> "Split":
        """With the rows of `copies` after its own."""
        if not copies:
            return self
        return replace(
            self,
            static=np.concatenate([self.static, *(copy.static for copy in copies)]),
            scene=np.concatenate([self.scene, *(copy.scene for copy in copies)]),
            devices=(*self.devices, *(device for copy in copies for device in copy.devices)),
            locations=(*self.locations, *(location for copy in copies for location in copy.locations)),
            paths=(*self.paths, *(path for copy in copies for path in copy.paths)),
        )

    def without_copies(self) -> "Split":
        """The recordings alone, as views."""
        rows = slice(self.recordings)
        return replace(
            self,
            static=self.static[rows],
            scene=self.scene[rows],
            devices=self.devices[rows],
            locations=self.locations[rows],
            paths=self.paths[rows],
            soft_scene=None if self.soft_scene is None else self.soft_scene[rows],
            soft_group=None if self.soft_group is None else self.soft_group[rows],
        )

    def take(self, kept: NDArray[np.bool_]) -> "Split":
        """Some rows, in their order."""

        def of(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name, keep in zip(names, kept, strict=True) if keep)

        return replace(
            self,
            static=self.static[kept],
            scene=self.scene[kept],
            devices=of(self.devices),
            locations=of(self.locations),
            paths=of(self.paths),
            recordings=int(kept[: self.recordings].sum()),
            soft_scene=None if self.soft_scene is None else self.soft_scene[kept],
            soft_group=None if self.soft_group is None else self.soft_group[kept],
        )

    def __len__(self) -> int:
        return len(self.scene)

    def with_soft(self, scene: NDArray[np.float32], group: NDArray[np.float32]) -> "Split":
        """The same clips with soft labels: log-scores (clip, scene) and (clip, group)."""
        return replace(self, soft_scene=scene, soft_group=group)
