"""The final actor: trains one student to the end, averages its snapshots, exports and verifies it.

It runs in a Ray actor or in a plain process alike.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.settings import CHANNELS, CONTEXT
from models import complexity
from models.averaging import average, greedy, reestimate_norms
from models.batches import batches
from models.fit import Diverged
from models.prediction import Predictions, predict
from models.scene_model import BeyondFp16, SceneModel
from orchestrator.errors import UserError
from orchestrator.export.formats import Format, formats_of
from orchestrator.export.onnx import export_onnx
from orchestrator.export.verify import Verified, verify
from orchestrator.monitor.telemetry import Gauges
from orchestrator.stages.context import Data
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_snapshot, load_tensors, save_tensors, snapshots_in
from orchestrator.storage.work import require_versions
from orchestrator.training.best import best_of, is_measured, judged, rank
from orchestrator.training.data import Split
from orchestrator.training.inputs import INPUT, tensor
from orchestrator.training.journal import Journal
from orchestrator.training.rows import Metric, Metrics
from orchestrator.training.scores import Scores
from orchestrator.training.task import Task, build, decide, judge, score, train, training_clips

MODEL = "model.safetensors"
TINY = 1e-6  # of a log loss: validation may be so small that a student has none
TFLITE, COMBINED_TFLITE = "student.tflite", "student-combined.tflite"


@dataclass(frozen=True)
class Outcome:
    """What a final actor returns; its files are in its folder."""

    averaged: "Averaged"
    predictions: dict[str, Predictions]  # on the test split, by format; torch's under the actor's name
    facts: dict[str, Any]  # of the export


@dataclass(frozen=True)
class Averaged:
    """The outcome of averaging: what was tried on validation, what was kept."""

    kept: str
    weights: dict[int, float]  # of the kept one: epoch -> weight
    tried: dict[str, Metrics]  # way -> metrics on validation
    fp16: Metrics  # the kept one's, its weights rounded to fp16


@dataclass(frozen=True)
class Averaging:
    """How one set of weights is made of a training's snapshots, and how it is read."""

    epochs: tuple[int, ...]  # whose snapshots may be averaged
    weights: tuple[float, ...] | None  # of the average; None: what is best on validation
    select_by: Metric
    shifts: tuple[int, ...]  # at test time
    export: dict[str, Any]  # format -> its settings
    begun: Path | None = None  # the journal of a trial of the search that is the beginning of this training


class Final:
    """Trains one student to the end of its schedule and makes it ready. Everything it finishes is on disk at once."""

    def __init__(self, name: str, task: Task, settings: Averaging, store: Store, folder: Path, run: str) -> None:
        """`folder` is the training's, below `store`; `run` the name of the run's folder."""
        self.name, self.settings, self.run_name = name, settings, run
        self.task = replace(task, device=usable(task.device))
        self.store, self.folder = store, folder
        self.journal = Journal(store, folder, settings.epochs, self.score)

    def __repr__(self) -> str:
        return self.folder.name

    def progress(self) -> Mapping[str, Any]:
        """The last epoch's row."""
        return self.journal.rows[-1] if self.journal.rows else {"epoch": 0}

    def run(self, data: Data, export: bool) -> Outcome:
        """Train, average, predict and export. A restarted actor resumes from the last snapshot.

        The data come with the call, not with the constructor: Ray can repeat a call, but it could not find a lost
        constructor argument again.
        """
        self.data = data
        try:
            return self.run_on_data(export)
        except BeyondFp16 as error:
            raise UserError(f"{self.folder.name} failed: {error}") from None

    def run_on_data(self, export: bool) -> Outcome:
        """Train, average, predict the test split, and export where `export` is true."""
        self.fit()
        averaged = self.average()
        predictions = {self.name: self.predict(self.student(), self.data.test)} if len(self.data.test) else {}
        files, facts = self.export() if export else ({}, {})
        for file in self.folder.iterdir():
            if file.name == MODEL or file.stem.startswith("student"):  # the journal has brought the rest
                self.store.push(file)
        return Outcome(averaged, predictions | files, facts)

    def fit(self) -> None:
        """Train from the last snapshot to the end; from the trial's last one, where the search has trained as far."""
        require_versions(self.store, self.folder.parents[1])
        gauges = Gauges(self.run_name, "final", self.folder.name)
        snapshot = self.journal.resume(self.settings.begun)
        try:
            for row, epoch in train(self.task, self.data.train, self.data.validation, snapshot):
                self.journal.add(row, epoch, last=row["epoch"] == self.task.recipe.epochs)
                gauges.report(row)
        except Diverged as error:
            raise UserError(f"{self.folder.name} failed: {error}") from None

    def average(self) -> Averaged:
        """Try the ways to one set of weights on validation, keep the best as model.safetensors."""
        ways = self.ways()
        students = {way: self.averaged(weights) for way, weights in ways.items()}
        tried = {way: self.judge(model) for way, model in students.items()}
        best = best_of(ways, self.settings.select_by, tried.__getitem__) or next(iter(ways))
        student = students[best]
        student.quantise()
        save_tensors(self.folder / MODEL, {name: value.half() for name, value in student.state_dict().items()})
        return Averaged(best, ways[best], tried, self.judge(student))

    def ways(self) -> dict[str, dict[int, float]]:
        """Ways to average: epoch -> weight each."""
        epochs, select_by = self.settings.epochs, self.settings.select_by
        if self.settings.weights is not None:
            return {"as chosen before": dict(zip(epochs, self.settings.weights, strict=True))}
        rows = {row["epoch"]: row for row in judged(self.journal.rows)}

        def loss(some: Sequence[int]) -> float:
            metrics = self.judge(self.averaged(dict.fromkeys(some, 1.0)))
            return rank(metrics, select_by) if is_measured(metrics) else math.inf

        order = sorted(epochs, key=lambda epoch: rank(rows[epoch], select_by))
        kept = sorted(greedy(order, loss))
        return {
            f"last, epoch {epochs[-1]}": {epochs[-1]: 1.0},
            f"single, epoch {order[0]}": {order[0]: 1.0},
            "plain average": dict.fromkeys(epochs, 1.0),
            "weighted average": {epoch: 1 / max(rows[epoch]["log_loss"], TINY) for epoch in epochs},
            f"greedy average, {', '.join(map(str, kept))}": dict.fromkeys(kept, 1.0),
        }

    def averaged(self, weights: dict[int, float]) -> SceneModel:
        """The average of snapshots, epoch -> weight, its BatchNorm statistics taken anew."""
        files = snapshots_in(self.folder)
        states = [load_snapshot(files[epoch]).model for epoch in weights]
        model = build(self.task)
        model.load_state_dict(average(states, list(weights.values())))
        model.to(self.task.device)
        if len(weights) > 1:
            reestimate_norms(model, self.training_inputs(), seed=self.task.seed)
        return model

    def score(self, predictions: Predictions) -> Scores:
        return score(self.data.validation, self.task, predictions)

    def judge(self, model: SceneModel) -> Metrics:
        """Metrics on validation."""
        return judge(self.data.validation, self.predict(model, self.data.validation), self.task)

    def training_inputs(self) -> Iterator[torch.Tensor]:
        """One epoch of inputs as training sees them."""
        clips = training_clips(self.task, self.data.train).to(torch.device(self.task.device))
        return (
            x for x, _ in batches(clips, self.task.recipe, INPUT, seed=self.task.seed, epoch=self.task.recipe.epochs)
        )

    def predict(self, model: torch.nn.Module, split: Split) -> Predictions:
        torch.set_num_threads(self.task.threads)
        place = next(model.parameters()).device
        return predict(model, tensor(split.static).to(place), INPUT, self.settings.shifts)

    def student(self) -> SceneModel:
        """The finished student: folded, its weights those of the files."""
        model = build(self.task)
        model.fold()
        model.load_state_dict({name: value.float() for name, value in load_tensors(self.folder / MODEL).items()})
        return model

    def export(self) -> tuple[dict[str, Predictions], dict[str, Any]]:
        """Write the files, run each over the test split, measure. `verify` raises where one is wrong."""
        student, clips = self.student(), self.data.test
        if not len(clips):
            # Everything was trained on; files and torch can be compared on any clips.
            clips = self.data.train.without_copies()
        shape = (CHANNELS, clips.static.shape[1], clips.static.shape[2] - 2 * CONTEXT)
        ours = self.predict(student, clips)
        both = {"scene": ours.scene.numpy()}
        if self.task.taxonomy.groups:
            both["group"] = ours.group.numpy()
        predictions, differences, seconds, files = {}, {}, {}, {}

        def check(name: str, written: Format, path: Path, expected: dict[str, Any]) -> Verified:
            done = verify(
                name,
                written.load(path, tuple(expected)),
                clips.static,
                expected,
                self.settings.shifts,
                largest_difference=written.settings.largest_difference,
            )
            differences[name], seconds[name], files[name] = done.differences, done.seconds_per_clip, path
            return done

        formats = formats_of(self.settings.export)
        with tempfile.TemporaryDirectory() as scratch:
            onnx = Path(scratch) / "student.onnx"
            export_onnx(student, shape, onnx)
            for name, written in formats.items():
                path = self.folder / f"student{written.suffix}"
                written.write(onnx, path)
                outputs = check(name, written, path, both).outputs
                group = torch.from_numpy(outputs["group"]) if "group" in outputs else ours.group
                predictions[name] = Predictions(torch.from_numpy(outputs["scene"]), group)
            if self.task.taxonomy.groups:
                expected = {"scene": self.combined(student, clips)}
                student.merge_groups(self.task.taxonomy.group_of_scene)
                export_onnx(student, shape, onnx)
                formats["tflite"].write(onnx, self.folder / COMBINED_TFLITE)
                check("tflite_combined", formats["tflite"], self.folder / COMBINED_TFLITE, expected)
        return predictions if len(self.data.test) else {}, {
            "complexity": asdict(complexity.measure(self.student(), shape)),
            "input_shape": list(shape),
            "largest_difference_from_torch": differences,
            "seconds_per_clip": seconds,
            "file_bytes": {name: path.stat().st_size for name, path in files.items()},
        }

    def combined(self, student: SceneModel, clips: Split) -> NDArray[np.float32]:
        """Torch's predictions for the combined file: combined after each shift, as the file does it."""
        views = [predict(student, tensor(clips.static), INPUT, (shift,)) for shift in self.settings.shifts]
        return np.mean([decide(view, "combined", self.task.taxonomy) for view in views], axis=0)


def usable(device: str) -> str:
    """The CPU in the GPU's stead, where torch cannot use that: Ray counts GPUs by their driver alone."""
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"
