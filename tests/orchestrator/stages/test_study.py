"""A finished search as Optuna opens it."""

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.config.loading import load
from orchestrator.stages.study import STUDY, study_of, write_study
from tests.orchestrator.stages.test_rounds import CONFIG, row, trial, whole


def opened(folder) -> optuna.Study:
    """By the file name that docs/cluster.md gives."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="demo", storage=storage)


def test_the_study_is_kept_as_optuna_opens_it(tmp_path):
    trials = [whole(1, 1.0), trial(3, "stopped", row(2, 2.5)), trial(13, "finished", row(14, 0.5), seed=1)]
    write_study(tmp_path / STUDY, study_of(CONFIG, trials), "demo")
    kept = opened(tmp_path)
    assert kept.best_value == 1.0
    assert [kept_trial.state for kept_trial in kept.get_trials()] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_the_study_of_several_objectives_has_all_of_them(tmp_path):
    space = "search.space={model.stem: {low: 8, high: 40}}"
    config = load("demo", [space, "search.objectives=[log_loss, bytes]", "search.stopping=none"])
    settings = {"model.stem": 32, "recipe.soft_weight": 0.5}
    done = trial(1, "finished", row(2, 2.0), row(14, 1.0), settings=settings)
    write_study(tmp_path / STUDY, study_of(config, [done]), "demo")
    kept = opened(tmp_path)
    assert [one.values for one in kept.get_trials()] == [[1.0, 2 * 59_121]] and len(kept.directions) == 2
