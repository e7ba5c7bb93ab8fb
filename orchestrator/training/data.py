"""What stages hand to trainings: tables of clips. The features themselves stay in a file that each machine maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.corpus import Clip
from features.maps import FeatureMap
from features.store import DamagedShard
from features.taxonomy import Taxonomy
from models.specs import Spec
from models.static import Static
from orchestrator.training.inputs import tensor


@dataclass(frozen=True)
class Features:
    """The static channel of some clips: rows of a map, which is opened where it is read."""

    map: FeatureMap
    rows: NDArray[np.int64]  # (clip,)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: NDArray[np.bool_] | slice) -> "Features":
        """Of some clips, in their order."""
        return replace(self, rows=self.rows[kept])

    def open(self) -> Static:
        """On the pages of this machine's map. Raises OSError where there is no room for the map.

        Raises DamagedShard where a shard is damaged, and removes it, so that the next start computes it anew.
        """
        try:
            return Static(tensor(self.map.open()), tensor(self.rows))
        except DamagedShard as error:
            self.map.keeper.remove(error.path)
            raise


@dataclass(frozen=True)
class Member:
    """One snapshot of a teacher."""

    model: Spec
    weights: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Split:
    """A split of the corpus."""

    features: Features
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
    def of(cls, clips: Sequence[Clip], features: Features, taxonomy: Taxonomy) -> "Split":
        """Clips and their features, the scenes as indices of the taxonomy."""
        return cls(
            features=features,
            scene=np.array([taxonomy.index(clip.scene) for clip in clips], np.int64),
            devices=tuple(clip.device for clip in clips),
            locations=tuple(clip.location for clip in clips),
            paths=tuple(clip.path for clip in clips),
            recordings=len(clips),
        )

    def with_copies(self, copies: Sequence["Split"]) -> "Split":
        """With the rows of `copies`, which are of the same map, after its own."""
        if not copies:
            return self
        return replace(
            self,
            features=replace(
                self.features, rows=np.concatenate([self.features.rows, *(copy.features.rows for copy in copies)])
            ),
            scene=np.concatenate([self.scene, *(copy.scene for copy in copies)]),
            devices=(*self.devices, *(device for copy in copies for device in copy.devices)),
            locations=(*self.locations, *(location for copy in copies for location in copy.locations)),
            paths=(*self.paths, *(path for copy in copies for path in copy.paths)),
        )

    def without_copies(self) -> "Split":
        """The recordings alone."""
        rows = slice(self.recordings)
        return replace(
            self,
            features=self.features.take(rows),
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
            features=self.features.take(kept),
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
