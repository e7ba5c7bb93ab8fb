"""The terminal names the trial that the search would choose, whatever order results come in."""

import io
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.config.loading import load
from orchestrator.monitor.status import StageStatus
from orchestrator.monitor.view import Bar, View
from orchestrator.stages.search import choose, no_snapshots, trial_task
from orchestrator.stages.tuning import Plan, Recorder
from orchestrator.storage.store import Store
from orchestrator.training.record import State, Training, Trial
from orchestrator.training.rows import Metric, Row
from tests.orchestrator.training.rows import row_of


class Running(SimpleNamespace):
    """All that the recorder knows of a trial of Tune's."""

    def __str__(self) -> str:
        return self.config["trial"]["trial"]


def running(number: int) -> Any:
    trial = {"stage": "search", "trial": f"student-{number:02d}", "number": number, "epochs": 14}
    return Running(config={"trial": trial}, last_result={}, error_file=None)


def recorded(number: int, *rows: Row, state: State = "stopped") -> Trial:
    return Trial(Training("search", f"student-{number:02d}", number, 14, state=state), rows)


@pytest.fixture
def recorder(tmp_path):
    def make(metric: Metric = "log_loss", ended: tuple[Trial, ...] = (), interrupted: tuple[Trial, ...] = ()):
        config = load("demo")
        plan = Plan("run", Store(tmp_path), tmp_path, partial(trial_task, config), no_snapshots, metric)
        bar = Bar(View(Console(file=io.StringIO())), "search", None, StageStatus("search"))
        return Recorder(plan, bar, 4, 14, ended, interrupted)

    return make


def show(recorder: Recorder, number: int, *rows: Row) -> str:
    """What the terminal says after these results."""
    for row in rows:
        recorder.done[f"student-{number:02d}"] = row["epoch"]
        recorder.compare(running(number), row)
    recorder.show()
    return recorder.bar.status.detail


@pytest.mark.parametrize(("metric", "shown"), [("log_loss", "0.600 / 0.800"), ("accuracy", "0.700 / 0.900")])
def test_the_metric_that_selects_names_the_best(recorder, metric: Metric, shown):
    found = recorder(metric)
    show(found, 1, row_of(14, 0.8, 0.6))
    assert f"best {shown}" in show(found, 2, row_of(14, 0.9, 0.7))


def test_epochs_between_cycle_ends_are_not_judged(recorder):
    found = recorder()
    assert "best" not in show(found, 1, row_of(1, 0.1, cycle_end=False))
    show(found, 1, row_of(2, 1.0))
    assert show(found, 2, row_of(2, 1.2), row_of(3, 0.5, cycle_end=False)).endswith("(student-01)")


def test_the_terminal_and_the_search_name_the_same_trial(recorder):
    lucky = [row_of(2, 0.1), row_of(6, 0.1), row_of(14, 1.6)]  # the best cycle end of all, but not its last
    stopped, steady = [row_of(2, 0.2)], [row_of(2, 1.9), row_of(6, 1.7), row_of(14, 1.5)]
    found = recorder()
    show(found, 1, *lucky)
    show(found, 2, *stopped)
    assert show(found, 3, *steady).endswith("best 0.500 / 1.500 (student-03)")
    trials = [recorded(1, *lucky), recorded(2, *stopped), recorded(3, *steady)]
    assert choose(trials, load("demo")).name == "student-03"


def test_of_equals_the_lower_number_is_the_best_whichever_was_faster(recorder):
    found = recorder()
    show(found, 2, row_of(14, 1.0))
    assert show(found, 1, row_of(14, 1.0)).endswith("(student-01)")


def test_trials_of_an_earlier_run_count_whether_they_ended_or_are_resumed(recorder):
    ended, interrupted = recorded(1, row_of(2, 0.1)), recorded(2, row_of(2, 1.5), row_of(6, 1.4), state="running")
    found = recorder(ended=(ended,), interrupted=(interrupted,))
    assert show(found, 3, row_of(2, 1.0)).endswith("best 0.500 / 1.400 (student-02)")
    assert found.bar.status.detail.startswith("1 of 4 done (1 stopped early)")


def test_a_trial_that_fails_is_no_longer_the_best(recorder):
    found = recorder()
    show(found, 1, row_of(6, 0.1))
    show(found, 2, row_of(2, 1.0))
    failed = running(1)
    failed.last_result = {"failure": "the loss is nan"}
    found.on_trial_complete(0, [], failed)
    assert found.bar.status.detail.endswith("(student-02)")
