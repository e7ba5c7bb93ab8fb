"""The final actor: trains one student to the end, averages its snapshots, exports and verifies it.

It runs in a Ray actor or in a plain process alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from features.settings import CHANNELS, CONTEXT
from models import complexity
from models.averaging import average, greedy, reestimate_norms
from models.batches import batches
from models.fit import Predictions, predict
from models.student import Student
from orchestrator.artifacts import (
    append_line,
    load_snapshot,
    load_tensors,
    read_lines,
    save_snapshot,
    save_tensors,
    snapshot_name,
    snapshots_in,
)
from orchestrator.data import Split
from orchestrator.evaluate import summary
from orchestrator.export.onnx import OnnxModel, export_onnx
from orchestrator.export.tflite import TFLiteModel, export_tflite
from orchestrator.export.verify import verify
from orchestrator.stages import Data
from orchestrator.training import INPUT, Task, best_row, build, decide, rank, tensor, train, training_clips

LATEST = "latest.safetensors"
MODEL = "model.safetensors"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What a final actor hands back; the rest is in its folder."""

    averaged: "Averaged"
    predictions: dict[str, Predictions]  # on the test split; torch's are called as the actor is
    facts: dict[str, Any]  # of the export


@dataclass(frozen=True)
class Averaged:
    """The outcome of averaging: what was tried on validation, what was kept."""

    kept: str
    tried: dict[str, dict[str, float]]  # way -> metrics on validation
    fp16: dict[str, float]  # the kept one's, its weights rounded to fp16


class Final:
    """Trains one student to the end of its schedule and makes it ready. Everything it finishes is on disk at once."""

    def __init__(self, name: str, task: Task, epochs: tuple[int, ...], select_by: str, folder: Path) -> None:
        self.name, self.task, self.epochs, self.select_by = name, task, epochs, select_by
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"final-{self.name}"

    def progress(self) -> dict[str, Any]:
        """The last epoch's row."""
        rows = read_lines(self.folder / METRICS)
        return rows[-1] if rows else {"epoch": 0}

    def run(self, data: Data, export: bool) -> Outcome:
        """All of it. A restarted actor goes on from the last snapshot.

        The data come with the call, not with the constructor: Ray can repeat a call, but it could not find a lost
        constructor argument again.
        """
        self.data = data
        self.fit()
        averaged = self.average()
        predictions = {self.name: self.predict(self.student(), self.data.test)}
        files, facts = self.export() if export else ({}, {})
        return Outcome(averaged, predictions | files, facts)

    def fit(self) -> None:
        """Train from the last snapshot to the end."""
        latest = self.folder / LATEST
        resume = load_snapshot(latest) if latest.exists() else None
        before = [row for row in read_lines(self.folder / METRICS) if resume and row["epoch"] <= resume.epoch]
        (self.folder / METRICS).write_text("")
        for row in before:
            append_line(self.folder / METRICS, row)
        for row, epoch in train(self.task, self.data.train, self.data.validation, resume):
            snapshot = epoch.snapshot()
            if epoch.number in self.epochs:
                save_snapshot(self.folder / snapshot_name(epoch.number), snapshot)
            append_line(self.folder / METRICS, row)
            save_snapshot(latest, snapshot)

    def average(self) -> Averaged:
        """Try the ways to one set of weights on validation, keep the best as model.safetensors."""
        files = snapshots_in(self.folder)
        rows = {row["epoch"]: row for row in read_lines(self.folder / METRICS)}
        states = {epoch: load_snapshot(files[epoch]).model for epoch in self.epochs}

        def student_of(weights: dict[int, float]) -> Student:
            model = self.untrained()
            model.load_state_dict(average([states[epoch] for epoch in weights], list(weights.values())))
            if len(weights) > 1:
                reestimate_norms(model, self.training_inputs(), seed=self.task.seed)
            return model

        def loss(epochs: Sequence[int]) -> float:
            return rank(self.judge(student_of(dict.fromkeys(epochs, 1.0))), self.select_by)

        order = sorted(self.epochs, key=lambda epoch: rank(rows[epoch], self.select_by))
        kept = sorted(greedy(order, loss))
        last = self.epochs[-1]
        ways: dict[str, dict[int, float]] = {
            f"last, epoch {last}": {last: 1.0},
            f"single, epoch {order[0]}": {order[0]: 1.0},
            "plain average": dict.fromkeys(self.epochs, 1.0),
            "weighted average": {epoch: 1 / rows[epoch]["log_loss"] for epoch in self.epochs},
            f"greedy average, {', '.join(map(str, kept))}": dict.fromkeys(kept, 1.0),
        }
        students = {way: student_of(weights) for way, weights in ways.items()}
        tried = {way: self.judge(model) for way, model in students.items()}
        best = best_row([{"way": way, **values} for way, values in tried.items()], self.select_by)["way"]
        student = students[best]
        student.quantise()
        save_tensors(self.folder / MODEL, {name: value.half() for name, value in student.state_dict().items()})
        return Averaged(best, tried, self.judge(student))

    def judge(self, model: Student) -> dict[str, float]:
        """Metrics on validation."""
        validation = self.data.validation
        return summary(validation.scene, decide(self.predict(model, validation), self.task))

    def training_inputs(self) -> Iterator[torch.Tensor]:
        """One epoch of inputs as training sees them."""
        clips = training_clips(self.task, self.data.train)
        return (
            x for x, _ in batches(clips, self.task.recipe, INPUT, seed=self.task.seed, epoch=self.task.recipe.epochs)
        )

    def predict(self, model: torch.nn.Module, split: Split) -> Predictions:
        torch.set_num_threads(self.task.threads)
        return predict(model, tensor(split.static), INPUT)

    def untrained(self) -> Student:
        model = build(self.task)
        assert isinstance(model, Student)
        return model

    def student(self) -> Student:
        """The finished student: folded, its weights those of the files."""
        model = self.untrained()
        model.fold()
        model.load_state_dict({name: value.float() for name, value in load_tensors(self.folder / MODEL).items()})
        return model

    def export(self) -> tuple[dict[str, Predictions], dict[str, Any]]:
        """Write the three formats, run the files over the test split, measure. `verify` raises where one is wrong."""
        student, test = self.student(), self.data.test
        shape = (CHANNELS, test.static.shape[1], test.static.shape[2] - 2 * CONTEXT)
        cost = complexity.measure(student, shape)
        assert cost.bytes <= complexity.LARGEST, "require_size has let it pass"
        onnx, tflite = self.folder / "student.onnx", self.folder / "student.tflite"
        export_onnx(student, shape, onnx)
        export_tflite(onnx, tflite)
        ours = self.predict(student, test)
        predictions, differences, seconds = {}, {}, {}
        for name, load in (("onnx", OnnxModel), ("tflite", TFLiteModel)):
            done = verify(name, load(self.folder / f"student.{name}"), test.static, ours)
            seconds[name] = done.seconds_per_clip
            predictions[name] = Predictions(torch.from_numpy(done.scene), torch.from_numpy(done.group))
            differences[name] = done.differences
        return predictions, {
            "complexity": asdict(cost),
            "input_shape": list(shape),
            "largest_difference_from_torch": differences,
            "seconds_per_clip": seconds,
            "file_bytes": {path.suffix[1:]: path.stat().st_size for path in (onnx, tflite)},
        }
