"""One rule names the best: cycle ends alone, the furthest trials alone, the earlier of equals, never what failed."""

import math

import pytest

from orchestrator.training.best import best_of, is_lower_better, judged, standing, standing_of, winner
from orchestrator.training.record import State, Training, Trial
from orchestrator.training.rows import Metric, Row
from tests.orchestrator.training.rows import row_of


def trial(number: int, *rows: Row, state: State = "finished") -> Trial:
    return Trial(Training("search", f"student-{number:02d}", number, 14, state=state), rows)


def best(*trials: Trial, metric: Metric = "log_loss") -> str | None:
    found = winner(map(standing_of, trials), metric)
    return found.trial if found else None


@pytest.mark.parametrize(("metric", "expected"), [("log_loss", "student-01"), ("accuracy", "student-02")])
def test_the_metric_decides(metric: Metric, expected):
    assert best(trial(1, row_of(14, 0.8, 0.6)), trial(2, row_of(14, 0.9, 0.7)), metric=metric) == expected
    assert is_lower_better(metric) == (metric == "log_loss")


def test_a_trial_that_got_further_beats_one_that_was_better_before():
    assert best(trial(1, row_of(6, 0.1, 0.9)), trial(2, row_of(6, 2.0), row_of(14, 1.9, 0.2))) == "student-02"


def test_the_last_cycle_end_counts_even_where_an_earlier_one_was_better():
    assert best(trial(1, row_of(6, 0.1), row_of(14, 1.5)), trial(2, row_of(6, 1.4), row_of(14, 1.4))) == "student-02"


def test_epochs_between_cycle_ends_count_neither_for_what_is_reached_nor_for_how_far():
    steady = trial(1, row_of(6, 1.0))
    dips = trial(2, row_of(6, 1.1), row_of(13, 0.1, 0.9, cycle_end=False))
    assert best(steady, dips) == "student-01"
    assert best(trial(3, row_of(5, 0.1, cycle_end=False))) is None


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_of_equals_the_earlier_one_is_the_best(metric: Metric):
    assert best(trial(1, row_of(14, 1.0)), trial(2, row_of(14, 1.0)), metric=metric) == "student-01"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_passed_over(bad):
    assert best(trial(1, row_of(14, bad)), trial(2, row_of(6, 1.0))) == "student-02"
    assert best(trial(1, row_of(6, 2.0), row_of(14, bad)), trial(2, row_of(6, 1.0))) == "student-02"
    assert best(trial(1, row_of(14, 1.0, accuracy=bad)), metric="accuracy") is None


def test_a_failed_trial_is_never_the_best():
    assert best(trial(1, row_of(14, 0.1), state="failed"), trial(2, row_of(6, 1.0))) == "student-02"
    assert best(trial(1, row_of(14, 0.1), state="failed")) is None


def test_what_was_not_measured_is_not_judged():
    row: Row = {**row_of(14, 1.0), "accuracy": None, "log_loss": None}
    assert judged([row]) == [] and standing("student-01", [row]) is None


def test_of_snapshots_and_averages_the_best_is_the_first_of_the_best():
    rows = [row_of(2, 2.0, 0.5), row_of(6, 1.0, 0.4), row_of(14, 1.0, 0.5), row_of(30, math.nan, 0.9)]
    assert best_of(range(4), "log_loss", rows.__getitem__) == 1
    assert best_of(range(4), "accuracy", rows.__getitem__) == 0
    assert best_of([3], "log_loss", rows.__getitem__) is None
