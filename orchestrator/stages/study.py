"""A finished search as Optuna's own journal, which its tools open."""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from orchestrator.config.experiment import Experiment
from orchestrator.stages.distributions import distributions, is_within
from orchestrator.stages.objectives import objectives_of
from orchestrator.stages.rounds import frozen
from orchestrator.training.record import Trial

STUDY = "optuna.journal"


def study_of(config: Experiment, trials: Sequence[Trial]) -> optuna.Study:
    """The trials of the first round that lie in the space, by the metric that selects; accuracy counts negative."""
    study = optuna.create_study(directions=[StudyDirection.MINIMIZE] * len(objectives_of(config)))
    space = distributions(config)
    first = (trial for trial in trials if trial.training.is_first and is_within(space, trial.training.settings))
    study.add_trials([frozen(config, space, trial) for trial in first])
    return study


def write_study(file: Path, study: optuna.Study, name: str) -> None:
    storage = JournalStorage(JournalFileBackend(str(file)))
    kept = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
    kept.add_trials(study.get_trials())
