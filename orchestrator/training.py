"""One training, wherever it runs: a Tune trial, the final actor or a plain process do exactly this."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.frontend import with_deltas
from features.settings import CHANNELS, CONTEXT
from features.store import FeatureSet
from features.taxonomy import Taxonomy
from models import complexity
from models.batches import Channels, Clips
from models.fit import Epoch, Predictions, Snapshot, fit
from models.heads import combine
from models.recipe import Recipe
from models.seeding import seeded
from models.specs import StudentSpec, TeacherSpec
from models.student import Student
from models.teacher import Teacher
from orchestrator.errors import UserError
from orchestrator.evaluate import summary

INPUT = Channels(with_deltas, CONTEXT)


@dataclass(frozen=True)
class Split:
    """A split as numpy arrays: what Ray's object store shares between processes without copying."""

    static: NDArray[np.float16]  # (clip, mel, frame)
    scene: NDArray[np.int64]  # (clip,)
    devices: tuple[str, ...]
    paths: tuple[str, ...]
    recordings: int  # so many rows are recordings; extra copies of them follow
    soft_scene: NDArray[np.float32] | None = None  # (clip, scene) log-scores
    soft_group: NDArray[np.float32] | None = None  # (clip, group)

    @classmethod
    def of(cls, features: FeatureSet, taxonomy: Taxonomy) -> "Split":
        clips = features.clips
        return cls(
            static=features.static,
            scene=np.array([taxonomy.index(clip.scene) for clip in clips], np.int64),
            devices=tuple(clip.device for clip in clips),
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
            paths=self.paths[rows],
            soft_scene=None if self.soft_scene is None else self.soft_scene[rows],
            soft_group=None if self.soft_group is None else self.soft_group[rows],
        )

    def with_soft(self, scene: NDArray[np.float32], group: NDArray[np.float32]) -> "Split":
        return replace(self, soft_scene=scene, soft_group=group)


@dataclass(frozen=True)
class Task:
    """What is trained, how, and how it is judged."""

    model: StudentSpec | TeacherSpec
    recipe: Recipe
    seed: int
    taxonomy: Taxonomy
    decision: str  # "scene" or "combined"
    copies: bool = False  # whether it is trained on the extra copies of the training clips too
    threads: int = 1
    device: str = "cpu"


def build(task: Task) -> nn.Module:
    """The model with its initial weights."""
    kind = Student if isinstance(task.model, StudentSpec) else Teacher
    taxonomy = task.taxonomy
    with seeded(task.seed, "initial weights"):
        return kind(task.model, channels=CHANNELS, scenes=len(taxonomy.scenes), groups=len(taxonomy.groups))  # type: ignore[arg-type]


def require_size(task: Task) -> None:
    """Raise UserError where a student would be larger than the challenge allows, before it is trained."""
    if isinstance(task.model, TeacherSpec):
        return
    model = build(task)
    assert isinstance(model, Student)
    model.fold()
    size = complexity.BYTES_PER_PARAMETER * sum(value.numel() for value in complexity.stored_parameters(model))
    if size > complexity.LARGEST:
        raise UserError(
            f"a student of these widths has {size:,} bytes in fp16; at most {complexity.LARGEST:,} are allowed: "
            f"lower student.model ({task.model})"
        )


def train(
    task: Task, data: Split, validation: Split, resume: Snapshot | None = None
) -> Iterator[tuple[dict[str, Any], Epoch]]:
    """Run `fit`, yielding each epoch with the row that logs, curves and `reproduce` use."""
    torch.set_num_threads(task.threads)
    started = time.perf_counter()
    model = build(task)
    clips = training_clips(task, data)
    for epoch in fit(
        model, clips, tensor(validation.static), task.recipe, INPUT, seed=task.seed, resume=resume, device=task.device
    ):
        yield (
            {
                "epoch": epoch.number,
                "loss": epoch.loss,
                "learning_rate": epoch.learning_rate,
                **summary(validation.scene, decide(epoch.validation, task)),
                "cycle_end": epoch.cycle_end,
                "clips_per_second": epoch.clips_per_second,
                "seconds": time.perf_counter() - started,
            },
            epoch,
        )


def decide(predictions: Predictions, task: Task) -> NDArray[np.float32]:
    """Probabilities (clip, scene) of the decision that is judged and exported."""
    if task.decision == "scene" or not task.taxonomy.groups:
        return predictions.scene.numpy()
    return combine(predictions.scene, predictions.group, torch.tensor(task.taxonomy.group_of_scene)).numpy()


def training_clips(task: Task, data: Split) -> Clips:
    """The rows of `data` that the task is trained on."""
    return to_clips(data if task.copies else data.without_copies(), task.taxonomy)


def to_clips(split: Split, taxonomy: Taxonomy) -> Clips:
    groups = np.array(taxonomy.group_of_scene)[split.scene]
    return Clips(
        static=tensor(split.static),
        scene=one_hot(split.scene, len(taxonomy.scenes)),
        group=one_hot(groups, len(taxonomy.groups)),
        soft_scene=None if split.soft_scene is None else tensor(split.soft_scene),
        soft_group=None if split.soft_group is None else tensor(split.soft_group),
    )


def one_hot(indices: NDArray[np.int64], width: int) -> Tensor:
    return torch.eye(width)[torch.from_numpy(indices.copy())]


def tensor(array: NDArray[Any]) -> Tensor:
    """A tensor on the array's own memory. Arrays from the object store are read-only, and nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def rank(row: Mapping[str, Any], metric: str) -> float:
    """A row's place by log loss or by accuracy: the lower, the better."""
    return row[metric] if metric == "log_loss" else -row[metric]


def best_row(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The row with the lowest log loss or the highest accuracy; the earlier one of equals."""
    return min(rows, key=lambda row: rank(row, metric))
