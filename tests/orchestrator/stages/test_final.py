"""The final stage: its students, what it chooses of them, and what its artifact holds."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ray.exceptions import RayTaskError
from rich.console import Console

from features.corpus import Clip
from features.maps import FeatureMap
from features.taxonomy import TAU_GROUPS, Taxonomy
from models.prediction import Predictions
from orchestrator.config.trained import apply_settings
from orchestrator.monitor.view import View
from orchestrator.stages.actors import progress_of
from orchestrator.stages.context import Context
from orchestrator.stages.final import Finished, keep_files, key_for, publish, reason_in, run, write_predictions
from orchestrator.stages.final_actor import MODEL, Averaged, Outcome
from orchestrator.stages.search import Search
from orchestrator.stages.students import DISTILLED, PLAIN, begun_by, best_student, chosen_of, tasks_of, training_of
from orchestrator.storage.tensors import load_tensors, save_tensors
from orchestrator.storage.work import working
from orchestrator.training.data import Features, Split
from orchestrator.training.record import FINISHED, TRIALS, Training
from orchestrator.training.rows import Metrics
from tests.orchestrator.watch.storages import row


@pytest.fixture
def config(small):
    return small("test_shifts=[0, 4]", "student.model.rows=[8, 8, 8]")


def test_a_plain_twin_is_trained_beside_a_student_that_has_teachers_alone(small):
    config = small("plain=true")
    assert list(tasks_of(config, config.student)) == [PLAIN]  # it has no soft labels
    distilled = replace(config.student.recipe, soft_weight=0.5, group_soft_weight=0.25)
    student = config.student.model_copy(update={"recipe": distilled})
    tasks = tasks_of(config, student)
    assert list(tasks) == [DISTILLED, PLAIN]
    assert tasks[DISTILLED].recipe == distilled
    assert tasks[PLAIN] == replace(tasks[DISTILLED], recipe=replace(distilled, soft_weight=0.0, group_soft_weight=None))
    assert list(tasks_of(config.model_copy(update={"plain": False}), student)) == [DISTILLED]
    for number, name in enumerate((DISTILLED, PLAIN), 1):
        training = training_of(name, tasks[name])
        assert (training.stage, training.trial, training.number, training.epochs) == (
            "final",
            f"final-{name}",
            number,
            3,
        )
        assert training.state == "running"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"epoch": 6, "accuracy": 0.4492}, "plain 6/30 0.449"),
        ({"epoch": 6, "accuracy": None}, "plain 6/30"),
        ({"epoch": 0}, "plain 0/30"),
    ],
)
def test_progress_shows_the_epoch_and_the_accuracy_where_there_is_one(row, text):
    assert progress_of("plain", row, 30) == text


def split(paths: tuple[str, ...], scenes: list[int]) -> Split:
    nothing, taxonomy = Features(FeatureMap((), (), (2, 3)), np.arange(len(paths))), Taxonomy.from_groups(TAU_GROUPS)
    told = zip(paths, scenes, "ab", "xy", strict=False)
    clips = [Clip(path, taxonomy.scenes[at], "test", location, device=device) for path, at, device, location in told]
    return Split.of(clips, nothing, taxonomy)


def test_predictions_are_a_row_for_each_model_and_clip(tmp_path):
    test = split(("x.wav", "y.wav"), [1, 0])
    scene = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    made = {"plain": Predictions(scene, torch.ones(2, 1)), "ensemble": Predictions(scene.flip(0), torch.zeros(2, 1))}
    write_predictions(tmp_path / "p.parquet", test, made)
    table = pq.read_table(tmp_path / "p.parquet")
    assert str(table.schema.field("scene").type) == str(table.schema.field("group").type) == "list<element: float>"
    rows = table.to_pylist()
    first, last = rows[0], rows[-1]
    assert len(rows) == 4 and (first.pop("location"), last.pop("location")) == ("x", "y")
    assert first == {"model": "plain", "path": "x.wav", "device": "a", "label": 1, "scene": [0.25, 0.75], "group": [1]}
    assert last == {
        "model": "ensemble",
        "path": "y.wav",
        "device": "b",
        "label": 0,
        "scene": [0.25, 0.75],
        "group": [0],
    }
    write_predictions(tmp_path / "none.parquet", split((), []), {})
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(ValueError("first\nthe loss is nan\n"), "the loss is nan"), (ZeroDivisionError(), "ZeroDivisionError")],
)
def test_a_failure_of_an_actor_in_one_line(cause, reason):
    assert reason_in(RayTaskError("run", "a traceback", cause)) == reason


def test_every_seed_has_its_pair_of_students(small):
    config = small("plain=true", "final.seeds=2")
    student = config.student.model_copy(update={"recipe": replace(config.student.recipe, soft_weight=0.5)})
    tasks = tasks_of(config, student)
    assert list(tasks) == ["distilled", "plain", "distilled-seed1", "plain-seed1"]
    assert tasks["distilled"].seed == tasks["plain"].seed != tasks["distilled-seed1"].seed == tasks["plain-seed1"].seed
    numbers = [training_of(name, task).number for name, task in tasks.items()]
    assert numbers == [1, 2, 3, 4]
    ended = [training_of(name, task, FINISHED) for name, task in tasks.items()]
    assert [(training.seed, training.state) for training in ended] == [(0, "finished")] * 2 + [(1, "finished")] * 2


def test_the_best_student_has_what_the_search_has_found(small, tmp_path):
    student = small().student
    found = Search(tmp_path, "student-02", {"recipe.mixup_alpha": 0.25})
    assert best_student(small(), found) == apply_settings(student, {"recipe.mixup_alpha": 0.25}) != student
    assert best_student(small(), None) == student


def outcome(log_loss: float | None) -> Outcome:
    accuracy = None if log_loss is None else 0.5
    fp16: Metrics = {"accuracy": accuracy, "log_loss": log_loss}
    return Outcome(Averaged("last", {3: 1.0}, False, (1.0, 1.0), {}, fp16), {}, {})


def test_the_student_that_is_best_on_validation_is_chosen_of_each_kind():
    losses = {"distilled": 1.0, "plain": 0.9, "distilled-seed1": 0.8, "plain-seed1": 1.5}
    found = {name: outcome(loss) for name, loss in losses.items()}
    assert chosen_of(found, "log_loss") == {"distilled": "distilled-seed1", "plain": "plain"}
    assert chosen_of({"distilled": outcome(None), "distilled-seed1": outcome(None)}, "log_loss") == {
        "distilled": "distilled"
    }


def test_the_final_training_goes_on_from_the_trial_that_is_its_beginning(small, tmp_path):
    base = "{scene_weight: 0.9, cycle_ends: [1, 3], crop_frames: 32, batch_size: 8}"
    search = (
        "{trials: 1, cycle_ends: [1], stopping: none, finalists: 0, space: {recipe.mixup_alpha: {low: 0.1, high: 1}}}"
    )
    config = small(f"student.recipe={base}", f"search={search}", "student.average=[3]")
    folder = tmp_path / TRIALS / "student-01-default"
    folder.mkdir(parents=True)
    own = Training("search", "student-01-default", 1, 1, {"recipe.mixup_alpha": 0.4}, FINISHED)
    (folder / "trial.json").write_text(json.dumps(vars(own)))
    (folder / "latest.safetensors").write_text("")
    found = Search(tmp_path, own.trial, own.settings)
    (task,) = tasks_of(config, config.student).values()
    assert begun_by(config, task, config.student, found) == folder
    earlier = config.student.model_copy(update={"average": (1, 3)})  # the trial's last snapshot is averaged, too
    assert begun_by(config, task, earlier, found) == folder
    assert begun_by(config, task, config.student, None) is None
    assert begun_by(config, replace(task, seed=task.seed + 1), config.student, found) is None
    other = replace(task, recipe=replace(task.recipe, mixup_alpha=0.5))
    assert begun_by(config, other, config.student, found) is None
    longer = replace(task, recipe=replace(task.recipe, cycle_ends=(2, 3)))
    assert begun_by(config, longer, config.student, found) is None
    (folder / "latest.safetensors").unlink()
    assert begun_by(config, task, config.student, found) is None


def trained(work: Path, *names: str) -> None:
    """What actors leave of trainings, in a folder of work in progress."""
    for number, name in enumerate(names, 1):
        folder = work / TRIALS / f"final-{name}"
        folder.mkdir(parents=True)
        save_tensors(folder / MODEL, {"w": torch.tensor([float(number)])})
        training = Training("final", f"final-{name}", number, 3, state=FINISHED)
        (folder / "trial.json").write_text(json.dumps(vars(training)))
        (folder / "rows.jsonl").write_text(json.dumps(row(number, 0.5)) + "\n")
        (folder / "latest.safetensors").write_text("")
        (folder / "student.onnx").write_text(name)


def test_the_artifact_keeps_weights_files_and_records(tmp_path):
    work, target = tmp_path / "work", tmp_path / "artifact"
    target.mkdir()
    names = ("distilled", "plain", "distilled-seed1")
    trained(work, *names)
    keep_files(work, target, names, {DISTILLED: "distilled-seed1", PLAIN: "plain"})
    assert load_tensors(target / "student.safetensors")["w"] == 3.0
    assert load_tensors(target / "plain.safetensors")["w"] == 2.0
    assert (target / "student.onnx").read_text() == "distilled-seed1"
    for number, name in enumerate(names, 1):
        kept = target / TRIALS / f"final-{name}"
        assert sorted(file.name for file in kept.iterdir()) == ["rows.jsonl", "trial.json"]
        assert json.loads((kept / "rows.jsonl").read_text()) == row(number, 0.5)


def test_the_artifact_says_what_was_chosen_averaged_and_predicted_and_is_used_again(config, store, data):
    context = Context(config, store, View(Console(file=io.StringIO())), "run")
    key = key_for(config, config.student, data, None)
    outcomes = {"distilled": outcome(1.0), "distilled-seed1": replace(outcome(0.5), facts={"file_bytes": {"onnx": 7}})}
    guess = torch.full((len(data.test), 10), 0.1)
    predicted = {"onnx": Predictions(guess, torch.full((len(data.test), 3), 1 / 3))}
    with working(store, "final", key) as work:
        trained(work.folder, *outcomes)
        publish(context, data, key, work, Finished(outcomes, {DISTILLED: "distilled-seed1"}, predicted), "student-01")
        work.discard()
    folder = run(context, data, {}, None, None)
    assert folder == store.root / "artifacts" / "final" / key
    assert "= final      reused" in printed(context)
    averages = json.loads((folder / "averages.json").read_text())
    assert {name: one["fp16"]["log_loss"] for name, one in averages.items()} == {
        "distilled": 1.0,
        "distilled-seed1": 0.5,
    }
    assert averages["distilled"]["kept"] == "last" and averages["distilled"]["weights"] == {"3": 1.0}
    assert json.loads((folder / "export.json").read_text()) == {"file_bytes": {"onnx": 7}}
    assert json.loads((folder / "chosen.json").read_text()) == {"distilled": "distilled-seed1"}
    assert json.loads((folder / "stage.json").read_text())["best_trial"] == "student-01"
    assert load_tensors(folder / "student.safetensors")["w"] == 2.0
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert [one["path"] for one in rows] == list(data.test.paths) and {one["model"] for one in rows} == {"onnx"}
    assert [one["label"] for one in rows] == data.test.scene.tolist()


def printed(context: Context) -> str:
    file = context.view.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()
