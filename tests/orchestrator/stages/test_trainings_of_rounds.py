"""The search's trainings by number: on which schedule and folds, how many wait for nothing, and who comes next."""

from dataclasses import replace

import pytest

from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.stages.rounds import Rounds, fixed_recipes, mean_over_folds
from orchestrator.stages.search import recalled
from orchestrator.training.record import State, Training, Trial
from orchestrator.training.rows import Row
from tests.orchestrator.training.rows import row_of

ENDS = (2, 6, 14)
EARLY = ["search.stopping.grace_cycles=1", "search.cycle_ends=[2, 6, 14]"]
FOLDS = load("demo", [*EARLY, "search.trials=4", "search.finalists={best: 1, seeds: 1}", "validation.folds=2"])


def row(epoch: int, log_loss: float) -> Row:
    return row_of(epoch, log_loss, cycle_end=epoch in ENDS)


def trial(number: int, state: State, *rows: Row) -> Trial:
    own = fixed_recipes(FOLDS)["default"]
    return Trial(Training("search", f"student-{number:02d}", number, 14, own, state, cut="fold1"), rows)


def whole(number: int, log_loss: float) -> Trial:
    return trial(number, "finished", row(2, log_loss + 1), row(6, log_loss + 0.5), row(14, log_loss))


def rounds(config: Experiment, *trials: Trial) -> Rounds:
    return Rounds(config, recalled(config, trials))


def test_a_trial_is_the_searchs_on_its_schedule_and_its_first_fold():
    made = [rounds(FOLDS).training(number) for number in (1, 2, 3)]
    assert [one and (one.stage, one.epochs, one.cut) for one in made] == [("search", 14, "fold1")] * 3


@pytest.mark.parametrize(("trials", "lag", "even"), [(16, 1, 4), (16, 8, 8), (100, 1, 10), (5, 1, 2)])
def test_a_quarter_of_the_trials_or_ten_or_as_many_as_the_lag_wait_for_nothing(trials, lag, even):
    config = load("demo", [f"search.trials={trials}", f"search.lag={lag}"])
    assert rounds(config).training(even) and rounds(config).training(even + 1) is None


@pytest.mark.parametrize(("trials", "names"), [(1, ["default"]), (2, ["default", "plain"])])
def test_a_single_trial_is_the_students_own(trials, names):
    assert list(fixed_recipes(load("demo", [f"search.trials={trials}"]))) == names


def test_one_objective_that_is_named_makes_no_other_search():
    settings = [*EARLY, "search.trials=16", "search.lag=2"]
    known = [whole(1, 1.0), whole(2, 1.1), *(trial(number, "running", row(2, 2.0)) for number in range(3, 10))]
    usual = rounds(load("demo", settings), *known).training(10)
    assert usual and rounds(load("demo", [*settings, "search.objectives=[log_loss]"]), *known).training(10) == usual


def test_a_trial_has_the_mean_of_its_last_cycle_ends_where_it_has_one_on_every_fold():
    first = whole(1, 1.0)
    second = Trial(replace(first.training, trial="student-01-fold2", number=5, cut="fold2"), whole(1, 2.0).rows)
    assert mean_over_folds(FOLDS, [first, whole(2, 0.5), second]) == {"student-01": {"accuracy": 0.5, "log_loss": 1.5}}


def test_before_the_trials_are_settled_the_total_has_every_fold_of_each():
    assert rounds(FOLDS, whole(1, 1.4), trial(2, "running")).total == 4 * 2 + (1 + 2) * 1 * 2


def test_the_finalists_are_known_once_the_further_folds_are_settled_and_not_before():
    found = rounds(FOLDS, whole(1, 1.4), whole(2, 1.3), whole(3, 1.1), trial(4, "stopped", row(2, 9.0)))
    again = [one for number in (5, 6, 7) if (one := found.training(number))]
    for one, loss in zip(again, (1.2, 1.0, 1.9), strict=True):
        assert found.training(8) is None and one.state == "running"
        found.verdicts.enter(replace(one, state="finished"), whole(1, loss).rows)
    names = ["student-01-seed1", "student-01-fold2-seed1", "student-02-seed1", "student-02-fold2-seed1"]
    assert [one and one.trial for one in map(found.training, range(8, 12))] == names


def test_nobody_is_a_finalist_while_the_first_trial_runs():
    config = load("demo", [*EARLY, "search.trials=5", "search.finalists={best: 2, seeds: 2}"])
    trials = [trial(1, "running", row(2, 2.0), row(6, 1.5)), *(whole(number, 1.0) for number in range(2, 6))]
    assert rounds(config, *trials).training(6) is None
