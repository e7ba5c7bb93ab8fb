"""Trials at a bench, in this process: each is what it is alone, whoever comes, goes or is lost beside it."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.fit import Fit
from models.together import NotAlike, Together
from orchestrator.stages import bench as benches
from orchestrator.stages import trainable
from orchestrator.stages.bench import GONE, PATIENCE, Bench
from orchestrator.stages.search import no_snapshots, trial_task
from orchestrator.stages.trainable import WORST, Plan
from orchestrator.storage.files import write_json
from orchestrator.storage.work import VERSIONS
from orchestrator.training.inputs import INPUT
from orchestrator.training.record import FINISHED, TRIALS, Training, rows_of
from orchestrator.training.task import build, placed, training_clips
from orchestrator.versions import versions

SPACE = (
    "{recipe.mixup_alpha: {low: 0.1, high: 1}, recipe.batch_size: {choices: [4, 8]}, "
    "recipe.learning_rate: {low: 0.01, high: 1}}"
)
SEARCH = f"{{trials: 3, cycle_ends: [2, 3], finalists: 0, stopping: none, together: 4, space: {SPACE}}}"
MIXUP = (0.2, 0.5, 0.9, 0.3)  # of the trainings 1, 2, ...


@pytest.fixture
def config(small):
    return small(f"search={SEARCH}")


@pytest.fixture
def plan(config, store) -> Plan:
    work = store.root / "work" / "search" / "key"
    work.mkdir(parents=True)
    write_json(work / VERSIONS, versions())
    return Plan("run", store, work, lambda training: trial_task(config, training), no_snapshots, "cpu", True, 4)


@pytest.fixture
def bench(plan, data) -> Bench:
    return Bench(plan, lambda: {"": (data.train, data.validation)})


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Of the groups whose epochs were trained as one."""
    found = list[int]()

    def epoch(self: Together) -> Any:
        found.append(len(self.trainings))
        return own(self)

    own = Together.epoch
    monkeypatch.setattr(Together, "epoch", epoch)
    return found


def training(number: int, **settings: Any) -> Training:
    recipe = {"recipe.mixup_alpha": MIXUP[number - 1], "recipe.batch_size": 8, "recipe.learning_rate": 0.1}
    recipe |= {f"recipe.{name}": value for name, value in settings.items()}
    return Training("search", f"student-{number}", number, 3, recipe)


def followed(bench: Bench, one: Training) -> list[dict[str, Any]]:
    """All its results, as its seat asks for them."""
    results = [bench.step(one)]
    while not results[-1]["done"]:
        assert len(results) < 10
        results.append(bench.step(one))
    return results


def all_of(bench: Bench, trainings: list[Training]) -> list[list[dict[str, Any]]]:
    """The results of trainings that have their seats before the first of them begins."""
    assert all(map(bench.join, trainings))
    with ThreadPoolExecutor(len(trainings)) as threads:
        return list(threads.map(lambda one: followed(bench, one), trainings))


def losses(plan: Plan, data: Any, *trainings: Training) -> list[list[float]]:
    """The losses of each epoch of trainings that are trained as one, to the bit.

    On clips as short as these a rounding grows to 0.01 in five steps, so what each is alone tells nothing here:
    tests/models/test_together.py compares that in double precision.
    """

    def made(one: Training) -> Fit:
        task = plan.task_of(one)
        clips, validation = training_clips(task, data.train), data.validation.features.open()
        return Fit(build(task), clips, validation, task.recipe, INPUT, seed=task.seed)

    torch.set_num_threads(1)
    if len(trainings) == 1:
        return [[epoch.loss for epoch in made(trainings[0])]]
    together = Together([made(one) for one in trainings])
    epochs = [together.epoch() for _ in range(trainings[0].epochs)]
    return [[getattr(epoch, "loss", math.nan) for epoch in column] for column in zip(*epochs, strict=True)]


def recorded(plan: Plan, *trainings: Training) -> list[list[float]]:
    """The losses in the journals."""
    return [[row["loss"] for row in rows_of(plan.work / TRIALS / one.trial)] for one in trainings]


def test_trials_that_have_seats_are_trained_as_one(plan, data, bench, sizes):
    trainings = [training(number) for number in (1, 2, 3)]
    results = all_of(bench, trainings)
    assert sizes == [3, 3, 3] and bench.taken() == 0
    assert recorded(plan, *trainings) == losses(plan, data, *trainings)
    assert [result[-1]["epoch"] for result in results] == [3, 3, 3]
    assert {one["remark"] for result in results for one in result} == {""}


def test_batches_of_other_sizes_are_trained_beside_them(plan, data, bench, sizes):
    first, other, third = training(1), training(2, batch_size=4), training(3)
    all_of(bench, [first, other, third])
    assert sizes == [2, 2, 2]
    assert recorded(plan, first, third) == losses(plan, data, first, third)
    assert recorded(plan, other) == losses(plan, data, other)


def test_a_seat_is_free_when_its_trial_ends_leaves_or_asks_for_nothing(bench, monkeypatch):
    bench.plan = replace(bench.plan, together=2)
    assert bench.join(training(1)) and bench.join(training(2)) and not bench.join(training(3))
    assert bench.join(training(2)) and bench.taken() == 2  # its process was lost: it begins anew
    bench.leave("student-2")
    bench.leave("student-2")
    assert bench.taken() == 1 and bench.join(training(3)) and not bench.join(training(4))
    later = benches.time.monotonic() + GONE + 1
    monkeypatch.setattr(benches.time, "monotonic", lambda: later)
    bench.members["student-1"].steps = 1  # a step takes its time
    assert bench.join(training(4)) and set(bench.members) == {"student-1", "student-4"}


def test_a_trial_that_comes_back_goes_on_from_its_journal(plan, data, bench, monkeypatch):
    monkeypatch.setattr(trainable, "STEP", 1e9)
    assert bench.join(training(1)) and bench.step(training(1))["epoch"] == 2
    bench.leave("student-1")  # or a process that was lost with its bench
    results = followed(bench, training(1))
    assert [one["epoch"] for one in results] == [2, 3]
    assert recorded(plan, training(1)) == losses(plan, data, training(1))


def test_one_that_is_not_there_is_waited_for_a_moment_only(plan, data, bench, sizes, monkeypatch):
    monkeypatch.setattr(benches, "PATIENCE", 0.01)
    assert bench.join(training(1)) and bench.join(training(2))
    followed(bench, training(1))
    followed(bench, training(2))
    assert not sizes
    for number in (1, 2):
        assert recorded(plan, training(number)) == losses(plan, data, training(number))


def test_one_that_diverges_is_a_failure_of_its_own(plan, bench):
    wild, tame = training(1, learning_rate=1e12), training(2)
    failed, other = all_of(bench, [wild, tame])
    assert "lower learning_rate" in failed[-1]["failure"] and failed[-1]["log_loss"] == WORST["log_loss"]
    assert other[-1]["epoch"] == 3 and len(recorded(plan, tame)[0]) == 3


@pytest.mark.parametrize(
    ("error", "remark", "expected"),
    [
        (torch.OutOfMemoryError("no memory"), "memory has room for 2 of 4 students as one", [2] * 6),
        (
            NotAlike("one of these"),
            "students are trained one after another: one of these; set search.together to 1",
            [],
        ),
    ],
)
def test_fewer_are_trained_as_one_where_more_cannot_be_and_it_is_said(
    plan, data, bench, sizes, monkeypatch, error, remark, expected
):
    def refusing(trainings: Any) -> Together:
        if len(trainings) > 2 or not expected:
            raise error
        return Together(trainings)

    monkeypatch.setattr(benches, "Together", refusing)
    trainings = [training(number) for number in (1, 2, 3, 4)]
    results = all_of(bench, trainings)
    groups = [trainings[:2], trainings[2:]] if expected else [[one] for one in trainings]
    assert sizes == expected
    assert recorded(plan, *trainings) == [row for group in groups for row in losses(plan, data, *group)]
    assert {result[-1]["remark"] for result in results} == {remark}


def failing(monkeypatch, error: Exception) -> None:
    """Let every second epoch of a group fail."""
    own, calls = Together.epoch, list[int]()

    def epoch(self: Together) -> Any:
        calls.append(len(self.trainings))
        if len(calls) % 2 == 0:
            raise error
        return own(self)

    monkeypatch.setattr(Together, "epoch", epoch)


def outcomes(bench: Bench, trainings: list[Training]) -> list[list[str]]:
    """What each of two steps of each comes to: a number of epochs, or an error's text."""

    def steps(one: Training) -> list[str]:
        found = []
        for _ in range(2):
            try:
                found.append(str(bench.step(one)["epoch"]))
            except Exception as error:
                found.append(str(error))
        return found

    assert all(map(bench.join, trainings))
    with ThreadPoolExecutor(len(trainings)) as threads:
        return list(threads.map(steps, trainings))


def test_after_an_error_of_a_group_its_trials_go_on_alone_so_that_one_fails_alone(
    plan, data, bench, sizes, monkeypatch
):
    monkeypatch.setattr(trainable, "STEP", -1.0)
    failing(monkeypatch, ValueError("a fault of a loss"))
    trainings = [training(1), training(2)]
    assert outcomes(bench, trainings) == [["1", "a fault of a loss"]] * 2 and bench.taken() == 0
    assert bench.suspects == {"student-1", "student-2"}
    all_of(bench, trainings)
    assert sizes == [2] and [len(one) for one in recorded(plan, *trainings)] == [3, 3]
    assert recorded(plan, *trainings) == [row for one in trainings for row in losses(plan, data, one)]


def test_memory_that_runs_out_in_an_epoch_makes_groups_smaller(bench, monkeypatch):
    monkeypatch.setattr(trainable, "STEP", -1.0)
    failing(monkeypatch, torch.OutOfMemoryError("no memory"))
    trainings = [training(number) for number in (1, 2, 3, 4)]
    assert outcomes(bench, trainings) == [["1", "no memory"]] * 4
    assert list(bench.most.values()) == [2] and not bench.suspects
    assert bench.remark == "memory has room for 2 of 4 students as one"


def test_a_process_whose_device_is_broken_ends(bench, monkeypatch):
    ended = list[int]()
    monkeypatch.setattr(benches.os, "_exit", ended.append)
    monkeypatch.setattr(trainable, "STEP", -1.0)
    failing(monkeypatch, torch.AcceleratorError("illegal access"))
    outcomes(bench, [training(1), training(2)])
    assert ended == [1]


def test_an_epoch_waits_for_who_has_a_step_under_way_or_has_just_had_one(bench, monkeypatch):
    assert bench.join(training(1)) and bench.join(training(2))
    first, second = bench.members.values()
    bench.ready = {None: first}  # of a training its place is enough
    now = second.answered
    monkeypatch.setattr(benches.time, "monotonic", lambda: now)
    assert not bench.is_complete()
    now += PATIENCE
    assert bench.is_complete()
    second.steps = 1
    assert not bench.is_complete()


def test_a_group_is_made_once_for_the_same_company(bench, monkeypatch):
    made = list[int]()

    def noted(trainings: Any) -> Together:
        made.append(len(trainings))
        return Together(trainings)

    monkeypatch.setattr(benches, "Together", noted)
    all_of(bench, [training(1), training(2)])
    assert made == [2] and not bench.ready and not bench.results


def test_all_trainings_have_one_copy_of_the_clips(bench, data, monkeypatch):
    made = list[bool]()

    def noted(task: Any, *splits: Any) -> Any:
        made.append(task.copies)
        return placed(task, *splits)

    monkeypatch.setattr(benches, "placed", noted)
    all_of(bench, [training(1), training(2), training(3)])
    task = bench.plan.task_of(training(1))
    assert made == [False] and bench.placed(task, data.train, data.validation) is next(iter(bench.clips.values()))
    bench.placed(replace(task, copies=True), data.train, data.validation)
    bench.placed(task, data.validation, data.validation)
    assert made == [False, True, False]


def test_what_is_recorded_of_a_seated_training(plan, bench):
    all_of(bench, [training(1), training(2)])
    for number in (1, 2):
        record = Training.read(plan.work / TRIALS / f"student-{number}")
        assert record == training(number) and record.state != FINISHED  # the driver records how it ends
