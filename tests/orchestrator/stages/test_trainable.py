"""A trial, in this process: what it trains, what it reports, and what it takes for a failure."""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] - generated

from orchestrator.errors import UserError
from orchestrator.monitor.tensorboard import records
from orchestrator.stages import trainable
from orchestrator.stages.search import no_snapshots, trial_task
from orchestrator.stages.trainable import STUDENTS, WORST, FitTrial, Plan, reason_of
from orchestrator.storage.files import write_json
from orchestrator.storage.tensors import snapshots_in
from orchestrator.storage.work import VERSIONS
from orchestrator.training import journal
from orchestrator.training.record import LATEST, TRIALS, Training, rows_of
from orchestrator.training.scores import load_scores
from orchestrator.training.task import Task, train
from orchestrator.versions import versions

SPACE = "{recipe.mixup_alpha: {low: 0.1, high: 1}}"
SEARCH = f"{{trials: 2, cycle_ends: [2, 3], finalists: 0, stopping: none, space: {SPACE}}}"


@pytest.fixture
def config(small):
    return small(f"search={SEARCH}")


@pytest.fixture
def plan(config, store) -> Plan:
    work = store.root / "work" / "search" / "key"
    work.mkdir(parents=True)
    write_json(work / VERSIONS, versions())
    return Plan("run", store, work, lambda training: trial_task(config, training), no_snapshots, "cpu", True)


def settings(number: int, mixup: float) -> dict[str, Any]:
    return {"trial": vars(Training("search", f"student-{number}", number, 3, {"recipe.mixup_alpha": mixup}))}


def started(plan: Plan, data, number: int = 1, mixup: float = 0.2) -> FitTrial:
    trial = FitTrial.__new__(FitTrial)
    trial.setup(settings(number, mixup), plan=plan, cuts={"": (data.train, data.validation)})
    return trial


def followed(trial: FitTrial) -> list[dict[str, Any]]:
    """All its results."""
    results = [trial.step()]
    while not results[-1]["done"]:
        assert len(results) < 10
        results.append(trial.step())
    return results


def without_times(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("seconds", "clips_per_second", "done")}


def test_a_step_ends_where_a_cycle_ends_and_its_rows_are_those_of_the_task(plan, data, monkeypatch):
    monkeypatch.setattr(trainable, "time", SimpleNamespace(monotonic=lambda: 1000.0))  # no time passes
    trial = started(plan, data)
    assert repr(trial) == STUDENTS
    results = followed(trial)
    assert [(one["epoch"], one["done"]) for one in results] == [(2, False), (3, True)]
    expected = [row for row, _ in train(plan.task_of(trial.running.training), data.train, data.validation)]
    folder = plan.work / TRIALS / "student-1"
    assert [without_times(row) for row in rows_of(folder)] == [without_times(row) for row in expected]
    assert without_times(results[-1]) == without_times(expected[-1])
    assert load_scores(folder / "scores.safetensors").keys() == {2, 3} and (folder / LATEST).exists()


def test_a_trial_records_that_it_runs_and_draws_its_curves_for_tensorboard(plan, data, elsewhere, monkeypatch):
    monkeypatch.setattr(trainable, "STEP", 1e9)
    trial = started(plan, data)
    trial.step()
    elsewhere.pull(elsewhere.root)  # so they are in the storage, not in this process's mirror alone
    record = Training.read(elsewhere.root / plan.work.relative_to(plan.store.root) / TRIALS / "student-1")
    assert record == trial.running.training and record.state == "running"
    (file,) = (elsewhere.root / "run" / "tensorboard").rglob("events*")
    assert file.parent.relative_to(elsewhere.root).as_posix() == "run/tensorboard/search/student-1"
    assert steps_of(file) == [1, 2]
    replace(record, state="finished").write(plan.store, plan.work)  # another process's
    started(plan, data).step()
    assert Training.read(plan.work / TRIALS / "student-1").state == "finished"


def steps_of(file: Path) -> list[int]:
    """The epochs whose loss a file of TensorBoard's has."""
    content = file.read_bytes()
    ends = list(records(content))
    events = [Event.FromString(content[begin + 12 : end - 4]) for begin, end in pairwise([0, *ends])]
    return [event.step for event in events if any(value.tag == "loss" for value in event.summary.value)]


def test_a_long_step_ends_with_every_epoch(plan, data, monkeypatch):
    monkeypatch.setattr(trainable, "STEP", -1.0)
    assert [one["epoch"] for one in followed(started(plan, data))] == [1, 2, 3]


def test_within_a_cycle_no_snapshot_is_saved_and_at_its_end_one_is(plan, data, monkeypatch):
    monkeypatch.setattr(trainable, "STEP", -1.0)
    monkeypatch.setattr(journal, "SNAPSHOT_EVERY", math.inf)
    trial = started(plan, data)
    latest = plan.work / TRIALS / "student-1" / LATEST
    assert [(trial.step()["epoch"], latest.exists()) for _ in range(2)] == [(1, False), (2, True)]


def test_a_trial_is_trained_on_the_plans_device_and_keeps_the_snapshots_that_the_plan_names(plan, data, monkeypatch):
    devices = list[str]()

    def on_cpu(task: Task, *rest: Any) -> Any:
        devices.append(task.device)
        return train(replace(task, device="cpu"), *rest)

    monkeypatch.setattr(trainable, "train", on_cpu)
    monkeypatch.setattr(trainable, "usable", lambda device: f"{device}:1")
    followed(started(replace(plan, device="cuda", keep_of=lambda training: (training.number + 1,)), data))
    assert devices == ["cuda:1"] and list(snapshots_in(plan.work / TRIALS / "student-1")) == [2]


def test_a_process_looks_at_its_versions_once(plan, data, monkeypatch):
    looked = list[object]()
    monkeypatch.setattr(trainable, "require_versions", lambda *given: looked.append(given))
    trial = started(plan, data)
    followed(trial)
    trial.reset_config(settings(2, 0.9))
    followed(trial)
    assert looked == [(plan.store, plan.work)]


def test_a_process_trains_one_trial_after_another(plan, data):
    trial = started(plan, data)
    first = followed(trial)
    assert trial.reset_config(settings(2, 0.9)) is True
    second = followed(trial)
    assert trial.running.training.trial == "student-2" and second[-1]["loss"] != first[-1]["loss"]
    alone = rows_of(plan.work / TRIALS / "student-2")
    expected = [row for row, _ in train(plan.task_of(trial.running.training), data.train, data.validation)]
    assert [row["loss"] for row in alone] == [row["loss"] for row in expected]


def test_the_log_of_an_actors_page_has_scores_and_early_ends(plan, data, monkeypatch, capsys):
    flushed = list[bool]()

    def noted(text: str, flush: bool = False) -> None:
        flushed.append(flush)
        print(text)

    monkeypatch.setattr(trainable, "STEP", 1e9)
    monkeypatch.setattr(trainable, "print", noted, raising=False)
    trial = started(plan, data)
    first = trial.step()
    trial.reset_config(settings(2, 0.9))
    last = followed(trial)[-1]
    trial.cleanup()

    def scores(row: Mapping[str, Any]) -> str:
        return f"accuracy {row['accuracy']:.3f}, log loss {row['log_loss']:.3f} on validation"

    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"student-1, epoch 2: {scores(first)}"
    assert said[1] == "student-1 is stopped after epoch 2"
    assert said[2].startswith("student-2, epoch 2: ") and said[3:] == [f"student-2, epoch 3: {scores(last)}"]
    assert flushed == [True]  # a process that is killed next has said it


def test_a_trial_that_is_stopped_or_resumed_after_its_first_epoch(small, plan, data, capsys):
    config = small(f"search={{trials: 2, cycle_ends: [1, 3], finalists: 0, stopping: none, space: {SPACE}}}")
    early = replace(plan, task_of=lambda training: trial_task(config, training))
    first = started(early, data).step()
    again = started(early, data)
    assert again.step() == first and first["epoch"] == 1
    again.cleanup()
    assert capsys.readouterr().out.splitlines()[-1] == "student-1 is stopped after epoch 1"


def test_after_a_resume_the_snapshot_s_epoch_is_reported_first(plan, data, monkeypatch):
    monkeypatch.setattr(trainable, "STEP", 1e9)
    first = started(plan, data).step()
    again = followed(started(plan, data))
    assert again[0] == first  # with the seconds that it took: what is trained anew takes others
    assert [(one["epoch"], one["done"]) for one in again] == [(2, False), (3, True)]
    whole = [row for row, _ in train(plan.task_of(Training(**settings(1, 0.2)["trial"])), data.train, data.validation)]
    assert [row["loss"] for row in rows_of(plan.work / TRIALS / "student-1")] == [row["loss"] for row in whole]


def test_a_training_that_diverges_is_the_worst_result_and_another_s_versions_are_an_outage(small, plan, data, store):
    config = small(f"search={SEARCH}", "student.recipe.learning_rate=1e12")
    wild = Plan("run", store, plan.work, lambda training: trial_task(config, training), no_snapshots, "cpu")
    trial = started(wild, data)
    assert repr(trial) == "student-1"
    result = trial.step()
    assert result["done"] and "lower learning_rate" in result["failure"] and "outage" not in result
    assert {name: result[name] for name in WORST} == WORST
    write_json(plan.work / VERSIONS, {**versions(), "torch": "1.0"})
    result = started(plan, data, number=3).step()
    assert result["done"] and "torch 1.0" in result["outage"] and "failure" not in result


def test_what_fails_of_the_storage_is_an_outage(plan, data, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "/data/x")

    trial = started(plan, data)
    monkeypatch.setattr(trainable.Journal, "add", full)
    assert trial.step()["outage"] == "/data/x: No space left on device"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error", "/x"), "/x: Input/output error"),
        (OSError(5, "Input/output error"), "storage: Input/output error"),
        (OSError("no answer from the bucket"), "no answer from the bucket"),
        (UserError("node a has torch 1.0"), "node a has torch 1.0"),
    ],
)
def test_reasons_in_one_line(error, reason):
    assert reason_of(error) == reason


def test_the_worst_result_has_all_that_tune_and_the_recorder_ask_of_one():
    assert dict(WORST) == {"log_loss": math.inf, "accuracy": 0.0, "epoch": 0, "cycle_end": False, "done": True}


def test_a_process_of_students_is_named_after_what_they_have_in_common():
    assert STUDENTS == "students of the search, one after another"
