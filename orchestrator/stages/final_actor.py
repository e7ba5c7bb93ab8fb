"""The final actor: trains one student to the end, averages its snapshots, exports and verifies it.

It runs in a Ray actor or in a plain process alike.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.settings import CHANNELS, CONTEXT
from models import complexity
from models.averaging import average, reestimate_norms
from models.batches import batches
from models.calibration import temperatures_of
from models.fit import Diverged
from models.prediction import Predictions, predict
from models.scene_model import BeyondFp16, SceneModel
from orchestrator.config.experiment import Experiment
from orchestrator.config.trained import StudentSettings
from orchestrator.errors import UserError
from orchestrator.export.formats import Format, formats_of
from orchestrator.export.onnx import export_onnx
from orchestrator.export.verify import Verified, verify
from orchestrator.monitor.telemetry import Telemetry
from orchestrator.stages.averages import Averaged, Way, ways_of
from orchestrator.stages.context import Data
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_snapshot, load_tensors, save_tensors, snapshots_in
from orchestrator.storage.work import require_versions
from orchestrator.training.best import best_of, judged
from orchestrator.training.data import Split
from orchestrator.training.inputs import INPUT
from orchestrator.training.journal import Journal
from orchestrator.training.rows import Metric, Metrics
from orchestrator.training.scores import Scores
from orchestrator.training.task import Task, build, decide, judge, score, targets_of, train, training_clips, usable

MODEL = "model.safetensors"
TFLITE, COMBINED_TFLITE = "student.tflite", "student-combined.tflite"


@dataclass(frozen=True)
class Outcome:
    """What a final actor returns; its files are in its folder."""

    averaged: Averaged
    predictions: dict[str, Predictions]  # on the test split, by format; torch's under the actor's name
    facts: dict[str, Any]  # of the export


@dataclass(frozen=True)
class Averaging:
    """How one set of weights is made of a training's snapshots, and how it is read."""

    epochs: tuple[int, ...]  # whose snapshots may be averaged
    weights: tuple[float, ...] | None  # of the average; None: what is best on validation
    moving: bool  # whether `weights` are of the cycles' moving averages
    calibrate: bool  # whether the logits are divided by temperatures that are fitted on validation
    select_by: Metric
    shifts: tuple[int, ...]  # at test time
    export: dict[str, Any]  # format -> its settings
    begun: Path | None = None  # the journal of a trial of the search that is the beginning of this training

    @classmethod
    def of(cls, config: Experiment, student: StudentSettings) -> "Averaging":
        """As the experiment's settings and the student's have it."""
        return cls(
            student.average,
            student.weights,
            student.moving,
            student.calibrate,
            config.select_by,
            config.test_shifts,
            config.export,
        )


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
        telemetry = Telemetry(self.run_name, "final", self.folder.name)
        snapshot = self.journal.resume(self.settings.begun)
        try:
            for row, epoch in train(self.task, self.data.train, self.data.validation, snapshot):
                self.journal.add(row, epoch, last=row["epoch"] == self.task.recipe.epochs)
                telemetry.report(row)
        except Diverged as error:
            raise UserError(f"{self.folder.name} failed: {error}") from None

    def average(self) -> Averaged:
        """Try the ways to one set of weights on validation, keep the best as model.safetensors."""
        ways, judge = self.ways()
        tried = {name: judge(way) for name, way in ways.items()}
        best = best_of(ways, self.settings.select_by, tried.__getitem__) or next(iter(ways))
        student = self.averaged(ways[best])
        temperatures = (1.0, 1.0)
        if self.settings.calibrate:
            validation = self.data.validation
            targets = targets_of(validation, self.task.taxonomy)
            temperatures = temperatures_of(self.predict(student, validation), *targets)
        student.quantise(temperatures)
        save_tensors(self.folder / MODEL, {name: value.half() for name, value in student.state_dict().items()})
        kept = ways[best]
        return Averaged(best, kept.weights, kept.moving, temperatures, tried, self.judge(student))

    def ways(self) -> tuple[dict[str, Way], Callable[[Way], Metrics]]:
        """Ways to average, by name, and what evaluates one on validation."""
        settings = self.settings

        @cache
        def evaluate(way: Way) -> Metrics:
            return self.judge(self.averaged(way))

        if settings.weights is not None:
            parts = tuple(zip(settings.epochs, settings.weights, strict=True))
            return {"as chosen before": Way(parts, settings.moving)}, evaluate
        rows = {row["epoch"]: row for row in judged(self.journal.rows)}
        has_moving = self.task.recipe.moving_average > 0
        return ways_of(rows, settings.epochs, settings.select_by, evaluate, has_moving), evaluate

    def averaged(self, way: Way) -> SceneModel:
        """An average of snapshots. The statistics of every one's BatchNorm are taken anew, so that all compare."""
        files = snapshots_in(self.folder)
        snapshots = [load_snapshot(files[epoch]) for epoch in way.weights]
        states = [one.model | one.moving if way.moving else one.model for one in snapshots]
        model = build(self.task)
        model.load_state_dict(average(states, list(way.weights.values())))
        model.to(self.task.device)
        reestimate_norms(model, self.training_inputs(), seed=self.task.seed)
        return model

    def score(self, predictions: Predictions) -> Scores:
        """Every validation clip's score, for the journal."""
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
        """Predictions of whole clips of a split, with the shifts at test time."""
        torch.set_num_threads(self.task.threads)
        place = next(model.parameters()).device
        return predict(model, split.features.open().to(place), INPUT, self.settings.shifts)

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
        static = clips.features.open()
        _, mel_bins, frames = static.shape
        shape = (CHANNELS, mel_bins, frames - 2 * CONTEXT)
        ours = self.predict(student, clips)
        both = {"scene": ours.scene.numpy()}
        if self.task.taxonomy.groups:
            both["group"] = ours.group.numpy()
        predictions, differences, seconds, files = {}, {}, {}, {}

        def check(name: str, written: Format, path: Path, expected: dict[str, Any]) -> Verified:
            done = verify(
                name,
                written.load(path, tuple(expected)),
                static,
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
        views = [predict(student, clips.features.open(), INPUT, (shift,)) for shift in self.settings.shifts]
        return np.mean([decide(view, "combined", self.task.taxonomy) for view in views], axis=0)
