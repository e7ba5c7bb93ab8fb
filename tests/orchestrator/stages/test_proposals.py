"""The search goes on as if it had never stopped: Optuna and ASHA know the truth about earlier trials."""

from types import SimpleNamespace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from models.specs import MobnetSpec
from orchestrator.config.loading import load
from orchestrator.config.space import AshaSettings
from orchestrator.stages.proposals import Proposals, study_of, write_study
from orchestrator.stages.stopping import Halving
from orchestrator.training.record import Settings, State, Training, Trial
from tests.orchestrator.training.rows import Row, row_of

CONFIG = load("demo", ["search.cycle_ends=[2, 6, 14]", "search.trials=5"])
SETTINGS: Settings = {
    "recipe.scene_weight": 0.7,
    "recipe.soft_weight": 0.5,
    "recipe.temperature": 2.0,
    "recipe.mixup_alpha": 0.3,
}


def row(epoch: int, log_loss: float) -> Row:
    return row_of(epoch, log_loss, cycle_end=epoch in (2, 6, 14))


def result(epoch: int, log_loss: float) -> dict[str, object]:
    return {**row(epoch, log_loss)}


def trial(number: int, state: State, *rows: Row) -> Trial:
    failure = "out of luck" if state == "failed" else None
    return Trial(Training("search", f"student-{number:02d}", number, 14, SETTINGS, state, failure), list(rows))


FINISHED = trial(1, "finished", row(1, 3.0), row(2, 2.0), row(6, 1.5), row(14, 1.0))
STOPPED = trial(2, "stopped", row(2, 2.5), row(6, 2.4))
FAILED = trial(3, "failed", row(2, 9.0))
INTERRUPTED = trial(4, "running", row(2, 2.2), row(5, 2.1), row(6, 2.0))


def test_a_rung_is_passed_exactly_at_each_cycle_end():
    halving = Halving(AshaSettings(reduction_factor=3), CONFIG)
    assert [halving.rung(epoch) for epoch in (1, 2, 5, 6, 13, 14)] == [0, 3, 3, 9, 9, 27]


def test_optuna_is_told_what_became_of_each_trial():
    study = study_of(CONFIG, [FINISHED, STOPPED, FAILED, INTERRUPTED])
    complete, pruned, failed = study.get_trials()
    assert (complete.state, complete.value) == (TrialState.COMPLETE, 1.0)
    assert (pruned.state, pruned.intermediate_values) == (TrialState.PRUNED, {2: 2.5, 6: 2.4})
    assert failed.state == TrialState.FAIL
    assert complete.params == SETTINGS and complete.user_attrs == {"name": "student-01"}


def test_the_study_is_kept_as_optuna_opens_it(tmp_path):
    write_study(tmp_path / "study", study_of(CONFIG, [FINISHED, STOPPED]), "demo")
    kept = optuna.load_study(study_name="demo", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study"))))
    assert kept.best_value == 1.0
    assert [kept_trial.state for kept_trial in kept.get_trials()] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_an_interrupted_trial_comes_first_and_the_others_follow_it_in_number():
    proposals = Proposals(CONFIG, [FINISHED, STOPPED, FAILED, INTERRUPTED], Halving(AshaSettings(), CONFIG))
    again = proposals.suggest("x")
    assert isinstance(again, dict) and again["trial"]["trial"] == "student-04"
    assert again["trial"]["settings"] == SETTINGS
    new = proposals.suggest("y")
    assert isinstance(new, dict) and new["trial"]["number"] == 5
    assert new["trial"]["trial"].startswith("student-05-scene")
    assert proposals.suggest("z") == Searcher.FINISHED


def test_what_trials_come_to_reaches_the_study():
    proposals = Proposals(CONFIG, [INTERRUPTED], Halving(AshaSettings(), CONFIG))  # 1, 2, 3 and 5 are left
    proposals.suggest("x")
    for again in (result(6, 2.0), result(7, 1.0), result(14, 0.5)):
        proposals.on_trial_result("x", again)
    proposals.on_trial_complete("x", result(14, 0.5))
    proposals.suggest("y")
    proposals.on_trial_result("y", result(2, 5.0))
    proposals.on_trial_complete("y", result(2, 5.0))
    proposals.suggest("z")
    proposals.on_trial_complete("z", error=True)
    whole, stopped, died = proposals.study.get_trials()
    assert (whole.value, whole.intermediate_values) == (0.5, {2: 2.2, 6: 2.0, 14: 0.5})
    assert (stopped.state, stopped.intermediate_values) == (TrialState.PRUNED, {2: 5.0})
    assert died.state == TrialState.FAIL


def test_a_repeated_search_makes_the_same_suggestions():
    first, second = (Proposals(CONFIG, [FINISHED, STOPPED], Halving(AshaSettings(), CONFIG)) for _ in range(2))
    assert first.suggest("a") == second.suggest("b")
    other = Proposals(load("demo", ["seed=1"]), [FINISHED, STOPPED], Halving(AshaSettings(), CONFIG)).suggest("c")
    assert isinstance(other, dict) and other["trial"]["settings"] != first.suggest("d")["trial"]["settings"]  # type: ignore[index]


def verdict(halving: Halving, name: str, outcome: dict) -> str:
    candidate = SimpleNamespace(trial_id=name)
    halving._trial_info[name] = halving._brackets[0]
    return halving.on_trial_result(None, candidate, outcome)  # type: ignore[arg-type]


@pytest.mark.parametrize(("log_loss", "expected"), [(1.9, TrialScheduler.CONTINUE), (2.6, TrialScheduler.STOP)])
def test_rungs_are_those_of_the_trials_before_the_interruption(log_loss, expected):
    """By hand: the first rung holds 2.0, 2.5 and 2.2, so half of them are better than 2.2."""
    halving = Halving(AshaSettings(), CONFIG)
    for before in (FINISHED, STOPPED, INTERRUPTED):
        halving.recall(before.name, before.rows)
    assert verdict(halving, "new", result(2, log_loss)) == expected
    assert (
        verdict(Halving(AshaSettings(), CONFIG), "new", result(2, log_loss)) == TrialScheduler.CONTINUE
    )  # as Ray restores it


def test_a_trial_that_is_told_again_is_judged_at_its_last_row_and_not_before():
    proposals = Proposals(CONFIG, [FINISHED, STOPPED, INTERRUPTED], halving := Halving(AshaSettings(), CONFIG))
    proposals.suggest("x")
    rungs = dict(halving._brackets[0]._rungs)
    assert rungs[2]["x"] == -2.2 and "x" not in rungs[4]
    # By hand: the second rung holds 1.5 and 2.4, their middle is 1.95; with 2.0 it is 2.0.
    assert verdict(halving, "x", result(6, 2.0)) == TrialScheduler.STOP
    assert halving._brackets[0]._rungs[1][1]["x"] == -2.0
    assert verdict(halving, "y", result(6, 1.9)) == TrialScheduler.CONTINUE


def test_choices_of_any_kind_come_back_as_they_were():
    space = "{recipe.batch_size: {choices: [8, 16]}, recipe.temperature: {choices: [1.5, 2.5]}}"
    config = load("demo", [f"search.space={space}", "search.trials=1"])
    new = Proposals(config, [], Halving(AshaSettings(), config)).suggest("x")
    assert isinstance(new, dict)
    settings = new["trial"]["settings"]
    assert settings["recipe.batch_size"] in (8, 16) and settings["recipe.temperature"] in (1.5, 2.5)
    ended = Trial(Training(**{**new["trial"], "state": "finished"}), [row(14, 1.0)])
    (known,) = study_of(config, [ended]).get_trials()
    assert known.value == 1.0


def test_widths_are_searched_as_whole_numbers():
    config = load("demo", ["search={trials: 3, cycle_ends: [2], space: {model.stem: {low: 16, high: 32}}}"])
    proposals = Proposals(config, [], Halving(AshaSettings(), config))
    suggested = [proposals.suggest(str(number)) for number in range(3)]
    stems = [each["trial"]["settings"]["model.stem"] for each in suggested if isinstance(each, dict)]
    assert all(type(stem) is int and 16 <= stem <= 32 for stem in stems)
    assert {config.search_recipe({"model.stem": stem}).model for stem in stems} == {
        MobnetSpec(stem=stem) for stem in stems
    }
