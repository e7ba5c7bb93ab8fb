"""What stages hand to trainings: tables of clips. The features themselves stay in a file that each machine maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
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


NAMED = ("path", "device", "location")  # columns of strings of a split's clips


@dataclass(frozen=True)
class Split:
    """A split of the corpus. Everything in it has a row for each clip; copies of recordings follow the recordings.

    Of what is large, processes of one machine share the memory: Ray hands out Arrow's and NumPy's buffers uncopied.
    """

    clips: pa.Table  # path, device, location: strings; scene: int64, its place in the taxonomy
    features: Features
    recordings: int  # so many rows are recordings
    soft_scene: NDArray[np.float32] | None = None  # (clip, scene) log-scores
    soft_group: NDArray[np.float32] | None = None  # (clip, group)
    teachers: tuple[tuple[Member, ...], ...] = ()  # who labels batches online: each teacher's snapshots
    # Of the scene and of the group classifier, that soft labels are at: stored ones have been divided by them, online
    # ones will be.
    temperatures: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, clips: Sequence[Clip], features: Features, taxonomy: Taxonomy) -> "Split":
        """Clips and their features."""
        columns = {name: pa.array([getattr(clip, name) for clip in clips], pa.string()) for name in NAMED}
        scene = pa.array([taxonomy.index(clip.scene) for clip in clips], pa.int64())
        return cls(pa.table({**columns, "scene": scene}), features, len(clips))

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def scene(self) -> NDArray[np.int64]:
        """(clip,)."""
        return self.clips["scene"].to_numpy()

    @property
    def paths(self) -> list[str]:
        return self.clips["path"].to_pylist()

    @property
    def devices(self) -> list[str]:
        return self.clips["device"].to_pylist()

    @property
    def locations(self) -> list[str]:
        return self.clips["location"].to_pylist()

    def with_copies(self, copies: Sequence["Split"]) -> "Split":
        """With the rows of `copies`, which are of the same map, after its own."""
        if not copies:
            return self
        rows = np.concatenate([self.features.rows, *(copy.features.rows for copy in copies)])
        clips = pa.concat_tables([self.clips, *(copy.clips for copy in copies)]).combine_chunks()
        return replace(self, clips=clips, features=replace(self.features, rows=rows))

    def without_copies(self) -> "Split":
        """The recordings alone."""
        return self.selected(slice(self.recordings), self.clips.slice(0, self.recordings))

    def take(self, kept: NDArray[np.bool_]) -> "Split":
        """Some rows, in their order."""
        chosen = self.selected(kept, self.clips.filter(pa.array(kept)).combine_chunks())
        return replace(chosen, recordings=int(kept[: self.recordings].sum()))

    def selected(self, kept: NDArray[np.bool_] | slice, clips: pa.Table) -> "Split":
        """The rows that are kept, `clips` being those of the table. Slices are views."""
        return replace(
            self,
            clips=clips,
            features=self.features.take(kept),
            soft_scene=None if self.soft_scene is None else self.soft_scene[kept],
            soft_group=None if self.soft_group is None else self.soft_group[kept],
        )

    def with_soft(self, scene: NDArray[np.float32], group: NDArray[np.float32]) -> "Split":
        """The same clips with soft labels: log-scores (clip, scene) and (clip, group)."""
        return replace(self, soft_scene=scene, soft_group=group)
