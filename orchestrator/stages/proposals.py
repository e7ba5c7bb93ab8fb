"""What the search tries next: Optuna proposes, knowing what trials of earlier, interrupted runs reached."""

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from models.seeding import derive
from orchestrator.config.experiment import Experiment, type_of
from orchestrator.config.space import SAMPLERS, Choices, Range
from orchestrator.stages.samplers import Sampler
from orchestrator.stages.stopping import StoppingRule, mode_of
from orchestrator.stages.tuning import proposal
from orchestrator.training.best import is_lower_better, judged
from orchestrator.training.record import FINISHED, RUNNING, STOPPED, Settings, Training, Trial

SHORT = {
    "temperature": "T",
    "soft_weight": "soft",
    "scene_weight": "scene",
    "mixup_alpha": "mix",
    "learning_rate": "lr",
}
STATES = {FINISHED: TrialState.COMPLETE, STOPPED: TrialState.PRUNED}
STUDY = "optuna.journal"


class Proposals(Searcher):
    """Optuna's suggestions as Tune trials: at first those that an earlier run left unfinished, then new ones.

    A suggestion depends on the seed, its number and what is known by then, so a repeated search makes the same ones.
    """

    def __init__(self, config: Experiment, recorded: Sequence[Trial], stopping: StoppingRule) -> None:
        super().__init__(metric=config.select_by, mode=mode_of(config))
        search = config.search
        assert search is not None
        self.config, self.search, self.stopping = config, search, stopping
        self.study = study_of(config, recorded)
        self.interrupted = deque(trial for trial in recorded if trial.training.state == RUNNING)
        taken = {trial.training.number for trial in recorded}
        self.fresh = deque(number for number in range(1, search.trials + 1) if number not in taken)
        self.open: dict[str, optuna.Trial] = {}
        for trial in recorded:
            if trial.training.state != RUNNING:
                stopping.recall(trial.name, trial.rows)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.interrupted:
            return self.again(trial_id, self.interrupted.popleft())
        if not self.fresh:
            return Searcher.FINISHED
        number = self.fresh.popleft()
        seed = derive(self.config.seed, "search", number) % 2**32
        sampler: Sampler = SAMPLERS.implementation(self.search.sampler)
        self.study.sampler = sampler(self.search.sampler, seed)
        self.open[trial_id] = self.study.ask(distributions(self.config))
        settings = decoded(self.open[trial_id].params)
        epochs = self.search.cycle_ends[-1]
        return proposal(Training("search", trial_name(number, settings), number, epochs, settings))

    def again(self, trial_id: str, trial: Trial) -> dict[str, Any]:
        """Propose an unfinished trial again. The trial itself reports its last row again, for ASHA."""
        self.study.enqueue_trial(encoded(self.config, trial.training.settings))
        self.open[trial_id] = self.study.ask(distributions(self.config))
        self.stopping.recall(trial_id, trial.rows[:-1])
        for row in trial.rows[:-1]:
            self.on_trial_result(trial_id, row)
        return proposal(trial.training)

    def on_trial_result(self, trial_id: str, result: Any) -> None:
        for row in judged([result]):
            self.open[trial_id].report(row[self.config.select_by], row["epoch"])

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        trial = self.open.pop(trial_id)
        if error or result is None or not judged([result]):
            self.study.tell(trial, state=TrialState.FAIL)
        elif result["epoch"] == self.search.cycle_ends[-1]:
            self.study.tell(trial, result[self.config.select_by])
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: the journals of the trials hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search resumes from its trials' journals")


def study_of(config: Experiment, recorded: Sequence[Trial]) -> optuna.Study:
    """The study as of the trials that have ended: complete, pruned with what they reached, or failed."""
    study = optuna.create_study(direction="minimize" if is_lower_better(config.select_by) else "maximize")
    study.add_trials([frozen(config, trial) for trial in recorded if trial.training.state != RUNNING])
    return study


def frozen(config: Experiment, trial: Trial) -> FrozenTrial:
    """A trial that has ended, as a trial of Optuna."""
    values = {row["epoch"]: row[config.select_by] for row in judged(trial.rows)}
    state = STATES.get(trial.training.state, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        params=encoded(config, trial.training.settings),
        distributions=distributions(config),
        value=values[max(values)] if state is TrialState.COMPLETE else None,
        intermediate_values=values,
        user_attrs={"name": trial.name},
    )


def write_study(file: Path, study: optuna.Study, name: str) -> None:
    """Keep the study as Optuna's own journal, which its tools open."""
    storage = JournalStorage(JournalFileBackend(str(file)))
    kept = optuna.create_study(study_name=name, storage=storage, direction=study.direction)
    kept.add_trials(study.get_trials())


def distributions(config: Experiment) -> dict[str, BaseDistribution]:
    assert config.search is not None
    return {name: distribution(values, type_of(config.student, name)) for name, values in config.search.space.items()}


def distribution(values: Range | Choices, kind: Any) -> BaseDistribution:
    """Of a setting of type `kind`. Choices are written as JSON, since Optuna stores no lists."""
    if isinstance(values, Choices):
        return CategoricalDistribution([json.dumps(choice) for choice in values.choices])
    if kind is int:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def encoded(config: Experiment, settings: Settings) -> Settings:
    assert config.search is not None
    space = config.search.space
    return {name: json.dumps(value) if isinstance(space[name], Choices) else value for name, value in settings.items()}


def decoded(parameters: Settings) -> Settings:
    return {name: json.loads(value) if isinstance(value, str) else value for name, value in parameters.items()}


def trial_name(number: int, settings: Settings) -> str:
    """Such as "student-03-T2.4-soft0.61-mix0.30": also the folder's name and the actor's on the dashboard."""
    words = [f"student-{number:02d}"]
    for key, value in settings.items():
        name = key.rpartition(".")[2]
        text = (
            f"{value:.2g}"
            if isinstance(value, float)
            else "x".join(map(str, value))
            if isinstance(value, list | tuple)
            else str(value)
        )
        words.append(f"{SHORT.get(name, name)}{text}")
    return "-".join(words)
