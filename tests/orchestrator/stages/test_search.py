"""Which trial is the best, and what a trial is called."""

import pytest

from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.stages.proposals import trial_name
from orchestrator.stages.search import choose
from orchestrator.training.record import Settings, State, Training, Trial
from tests.orchestrator.training.rows import Row, row_of

CONFIG = load("demo")  # trials of 6 epochs, cycles end at 2 and 6, judged by log loss


def row(epoch: int, log_loss: float, accuracy: float = 0.5) -> Row:
    return row_of(epoch, log_loss, accuracy, cycle_end=epoch in (2, 6))


def trial(name: str, rows: list[Row], failure: str | None = None, state: State = "finished") -> Trial:
    settings: Settings = {"recipe.temperature": 2.0}
    return Trial(Training("search", name, 1, 6, settings, "failed" if failure else state, failure), rows)


def test_a_trial_that_was_stopped_early_cannot_win():
    lucky = trial("lucky", [row(1, 2.0), row(2, 0.1)])
    whole = trial("whole", [row(2, 0.9), row(6, 0.8)])
    better = trial("better", [row(2, 1.5), row(6, 0.7)])
    assert choose([lucky, whole, better], CONFIG).name == "better"


def test_only_cycle_ends_count():
    dip = trial("dip", [row(2, 1.0), row(5, 0.01), row(6, 0.9)])
    steady = trial("steady", [row(2, 1.0), row(5, 0.8), row(6, 0.8)])
    assert choose([dip, steady], CONFIG).name == "steady"


def test_accuracy_is_the_judge_where_the_config_says_so():
    config = load("demo", ["select_by=accuracy"])
    sharp = trial("sharp", [row(6, 0.5, accuracy=0.6)])
    right = trial("right", [row(6, 0.9, accuracy=0.7)])
    assert choose([sharp, right], config).name == "right"


def test_failed_trials_are_passed_over_and_their_reason_is_told():
    failed = trial("failed", [row(2, 0.1)], "the loss is nan in epoch 3")
    assert choose([failed, trial("fine", [row(2, 1.0)])], CONFIG).name == "fine"
    with pytest.raises(UserError, match="every trial failed; the first reason: the loss is nan in epoch 3"):
        choose([failed], CONFIG)


def test_a_trials_name_tells_it_from_the_others():
    settings: Settings = {"recipe.temperature": 2.4123, "recipe.soft_weight": 0.611, "model.rows": [16, 20, 24]}
    assert trial_name(3, settings) == "student-03-T2.4-soft0.61-rows16x20x24"
