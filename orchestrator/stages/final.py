"""The final actor: distils the best recipe over the full schedule, averages, exports, verifies.

A twin trains the plain student, the same recipe without distillation, so that the difference is measured.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from features.settings import CHANNELS, CONTEXT
from models import complexity
from models.averaging import average, ensemble, reestimate_norms
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
    write_json,
)
from orchestrator.config import Experiment, apply_settings, key_of
from orchestrator.errors import UserError
from orchestrator.evaluate import summary
from orchestrator.export.onnx import OnnxModel, export_onnx
from orchestrator.export.tflite import TFLiteModel, export_tflite
from orchestrator.export.verify import verify
from orchestrator.stages import FORMAT, Clock, Context, Data, record
from orchestrator.stages.labels import predict_teachers
from orchestrator.stages.search import Search, student_task
from orchestrator.training import INPUT, Split, Task, best_row, build, decide, tensor, to_clips, train
from orchestrator.view import Bar

DISTILLED, PLAIN = "distilled", "plain"
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
        best = best_row([rows[epoch] for epoch in self.epochs], self.select_by)["epoch"]
        ways = {
            f"single, epoch {best}": (states[best], False),
            "plain average": (average(list(states.values()), [1.0] * len(states)), True),
            "weighted average": (
                average(list(states.values()), [1 / rows[epoch]["log_loss"] for epoch in self.epochs]),
                True,
            ),
        }
        tried: dict[str, dict[str, float]] = {}
        candidates: dict[str, Student] = {}
        for way, (state, estimate) in ways.items():
            model = candidates[way] = self.untrained()
            model.load_state_dict(state)
            if estimate:
                reestimate_norms(model, self.training_inputs(), seed=self.task.seed)
            tried[way] = self.judge(model)
        kept = best_row([{"way": way, **values} for way, values in tried.items()], self.select_by)["way"]
        student = candidates[kept]
        student.quantise()
        save_tensors(self.folder / MODEL, {name: value.half() for name, value in student.state_dict().items()})
        return Averaged(kept, tried, self.judge(student))

    def judge(self, model: Student) -> dict[str, float]:
        """Metrics on validation."""
        validation = self.data.validation
        return summary(validation.scene, decide(self.predict(model, validation), self.task))

    def training_inputs(self) -> Iterator[torch.Tensor]:
        """One epoch of inputs as training sees them."""
        clips = to_clips(self.data.train, self.task.taxonomy)
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
        """Write the three formats, run the files over the test split, measure. Raises UserError where one is wrong."""
        student, test = self.student(), self.data.test
        shape = (CHANNELS, test.static.shape[1], test.static.shape[2] - 2 * CONTEXT)
        cost = complexity.measure(student, shape)
        if cost.bytes > complexity.LARGEST:
            raise UserError(
                f"the student has {cost.bytes:,} bytes by the challenge's rule; at most {complexity.LARGEST:,}"
            )
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


def run(context: Context, data: Data, teachers: dict[str, Path], labels: Path, search: Search) -> Path:
    """Train, average, export and evaluate; the only stage that reads the test split."""
    config, store = context.config, context.store
    student = apply_settings(config.student, search.settings)
    key = key_of(FORMAT, student, config.decision, config.select_by, config.seed, labels.name, data.key)
    folder = store.finished("final", key)
    if folder is not None:
        context.view.reused("final", "the exported student")
        return folder
    work = store.work("final", key)
    clock = Clock(work)
    try:
        with context.view.stage("final") as bar:
            actors = start_actors(config, search, work)
            # The teachers' turn comes whenever a CPU is free; the actors give theirs back when they are done.
            members = predict_teachers(config, teachers, data.test.static)
            outcomes = follow(actors, data, student.recipe.epochs, bar)
            teachers_say = {name: ensemble(ray.get(rows), config.ensemble_of) for name, rows in members.items()}
            predictions = {f"teacher {name}": rows for name, rows in teachers_say.items()}
            predictions["ensemble"] = ensemble(list(teachers_say.values()), config.ensemble_of)
            for outcome in outcomes.values():
                predictions |= outcome.predictions
            averaged, facts = outcomes[DISTILLED].averaged, outcomes[DISTILLED].facts
            bar.detail = f"{averaged.kept}; {facts['complexity']['bytes']:,} bytes by the challenge's rule"
    finally:
        seconds = clock.save()
    with store.publish("final", key) as target:
        for name in ("student.onnx", "student.tflite"):
            shutil.copy(work / DISTILLED / name, target / name)
        shutil.copy(work / DISTILLED / MODEL, target / "student.safetensors")
        shutil.copy(work / PLAIN / MODEL, target / "plain.safetensors")
        for name in actors:
            shutil.copy(work / name / METRICS, target / f"metrics-{name}.jsonl")
        write_json(target / "averages.json", {name: asdict(outcome.averaged) for name, outcome in outcomes.items()})
        write_json(target / "export.json", facts)
        write_predictions(target / "predictions.parquet", data.test, predictions)
        record(target, seconds, best_trial=search.best)
    shutil.rmtree(work)
    folder = store.finished("final", key)
    assert folder is not None
    return folder


def start_actors(config: Experiment, search: Search, work: Path) -> dict[str, Any]:
    student = apply_settings(config.student, search.settings)
    tasks = {
        DISTILLED: student_task(config, student),
        PLAIN: student_task(config, apply_settings(student, {"recipe.soft_weight": 0.0})),
    }
    resources = config.resources
    # Two threads of an actor: one works, the other answers `progress`.
    remote: Any = ray.remote(Final)
    options = {
        "num_cpus": resources.cpus_per_trial,
        "num_gpus": resources.gpus_per_trial,
        "max_restarts": 2,
        "max_task_retries": 2,
        "max_concurrency": 2,
        "namespace": work.name,
    }
    device = "cuda" if resources.gpus_per_trial else "cpu"
    return {
        name: remote.options(name=f"final-{name}", **options).remote(
            name, replace(task, device=device), student.average, config.select_by, work / name
        )
        for name, task in tasks.items()
    }


def follow(actors: dict[str, Any], data: Data, epochs: int, bar: Bar) -> dict[str, Outcome]:
    """Wait for the actors, showing how far they are. A failed one ends the stage with its reason.

    An actor that is done is given up at once, for the sake of whatever waits for its resources.
    """
    shared = ray.put(data)
    work = {actor.run.remote(shared, export=name == DISTILLED): name for name, actor in actors.items()}
    outcomes: dict[str, Outcome] = {}
    rows: dict[str, dict[str, Any]] = {}
    asked: dict[Any, str] = {}
    try:
        while work:
            for reference in ray.wait(list(work), timeout=1.0)[0]:
                name = work.pop(reference)
                outcomes[name] = ray.get(reference)
                rows[name] = {**rows.get(name, {}), "epoch": epochs}
                ray.kill(actors[name])
                asked = {answer: who for answer, who in asked.items() if who != name}
            # An actor that waits for a place cannot answer yet, so answers are not waited for.
            asked |= {actors[name].progress.remote(): name for name in work.values() if name not in asked.values()}
            for answer in ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else ():
                rows[asked.pop(answer)] = ray.get(answer)
            texts = [
                f"{name} {row['epoch']}/{epochs} {row.get('accuracy', 0):.3f}" for name, row in sorted(rows.items())
            ]
            exporting = rows.get(DISTILLED, {}).get("epoch") == epochs and DISTILLED in work.values()
            bar.update(
                sum(row["epoch"] for row in rows.values()),
                epochs * len(actors),
                ", ".join(texts) + ", exporting" * exporting,
            )
    finally:
        for actor in actors.values():
            ray.kill(actor)
    return outcomes


def write_predictions(path: Path, test: Split, predictions: dict[str, Predictions]) -> None:
    """One row a model and clip: the probabilities of both classifiers."""
    tables = [
        pa.table(
            {
                "model": [name] * len(test.paths),
                "path": list(test.paths),
                "device": list(test.devices),
                "label": test.scene,
                "scene": list(values.scene.numpy().astype(np.float32)),
                "group": list(values.group.numpy().astype(np.float32)),
            }
        )
        for name, values in predictions.items()
    ]
    pq.write_table(pa.concat_tables(tables), path)
