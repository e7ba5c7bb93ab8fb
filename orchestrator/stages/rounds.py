"""The trainings of a search by number: the student's own recipe, the plain one, proposals; at last the finalists.

Every one of them follows from the settings, the seed, and what is known of trials with lower numbers.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from orchestrator.config.experiment import Experiment, value_of
from orchestrator.config.search import SAMPLERS, SobolSettings
from orchestrator.stages.distributions import decoded, distributions, encoded, is_within
from orchestrator.stages.samplers import Sampler, Sobol
from orchestrator.stages.verdicts import Verdicts
from orchestrator.training.best import judged, place, rank, standing_of
from orchestrator.training.record import FINISHED, RUNNING, STOPPED, Settings, Training, Trial
from orchestrator.training.rows import Metric

SHORT = {
    "temperature": "T",
    "soft_weight": "soft",
    "scene_weight": "scene",
    "mixup_alpha": "mix",
    "learning_rate": "lr",
}
WITHOUT_TEACHERS: Settings = {"recipe.soft_weight": 0.0, "recipe.group_soft_weight": None}
DEFAULT, PLAIN = "default", "plain"  # the trials that are always candidates


class Rounds:
    """What each number of a search is trained with."""

    def __init__(self, config: Experiment, verdicts: Verdicts) -> None:
        assert config.search is not None
        self.config, self.search, self.verdicts = config, config.search, verdicts
        self.space = distributions(config)
        self.sampler: Sampler = SAMPLERS.implementation(self.search.sampler)(self.search.sampler)
        self.fixed = fixed_recipes(config)
        # The first quarter fills the space evenly; nothing could be known before the lag, either.
        self.even = max(len(self.fixed), round(self.search.trials / 4), self.search.lag)

    def training(self, number: int) -> Training | None:
        """The training of a number; None where it is not known yet, or will never be."""
        if number <= self.search.trials:
            return self.trial(number)
        finals = self.finals()
        return finals[number - self.search.trials - 1] if finals and number <= self.total else None

    @property
    def total(self) -> int:
        """Trainings in all; before the finalists are known, the most that there can be."""
        finalists, finals = self.search.finalists, self.finals()
        if finals is not None:
            return self.search.trials + len(finals)
        if finalists is None:
            return self.search.trials
        return self.search.trials + (finalists.best + len(self.fixed)) * finalists.seeds

    def trial(self, number: int) -> Training | None:
        """A trial of the first round: fixed, one of the points that fill the space, or what the sampler proposes."""
        recipes = list(self.fixed.items())
        if number <= len(recipes):
            name, settings = recipes[number - 1]
            return self.named(f"student-{number:02d}-{name}", number, settings)
        looks_back = self.sampler.looks_back and number > self.even
        sampler = self.sampler if looks_back or not self.sampler.looks_back else Sobol(SobolSettings())
        past = self.past(number) if looks_back else []
        if past is None:
            return None
        drawn = decoded(sampler.propose(self.space, past, number, self.config.seed))
        return self.named(trial_name(number, drawn), number, self.fixed[DEFAULT] | drawn)

    def past(self, number: int) -> list[FrozenTrial] | None:
        """What a proposal may know of the trials before it, whenever it is made; None where that is not there yet."""
        verdicts, lag = self.verdicts, self.search.lag
        trials: list[Trial] = []
        for other in range(1, number):
            if other <= number - 4 * lag:
                if not verdicts.is_settled(other):
                    return None
                trials.append(verdicts.counted(verdicts.trials[other]))
            elif other <= number - lag:
                if not verdicts.is_known(other, verdicts.first):
                    return None
                trials.append(verdicts.until(verdicts.trials[other], verdicts.first))
            else:
                trials.append(Trial(replace(verdicts.trials[other].training, state=RUNNING), ()))
        within = (trial for trial in trials if is_within(self.space, trial.training.settings))
        return [frozen(self.space, trial, self.config.select_by) for trial in within]

    def finals(self) -> list[Training] | None:
        """The trainings of the last round; None before all trials are settled."""
        settled = all(self.verdicts.is_settled(number) for number in range(1, self.search.trials + 1))
        return self.last_round if settled else None

    @cached_property
    def last_round(self) -> list[Training]:
        """The same, once all trials are settled."""
        finalists, trials = self.search.finalists, self.search.trials
        if finalists is None:
            return []
        seeds = range(1, finalists.seeds + 1)
        again = [(trial.training, seed) for trial in self.finalists(finalists.best) for seed in seeds]
        return [
            self.named(f"{training.trial}-seed{seed}", trials + place, training.settings, seed)
            for place, (training, seed) in enumerate(again, 1)
        ]

    def finalists(self, best: int) -> list[Trial]:
        """The fixed recipes and the best of all, as far as they were trained to the end."""
        trials = [self.verdicts.counted(self.verdicts.trials[number]) for number in range(1, self.search.trials + 1)]
        whole = [trial for trial in trials if is_whole(trial)]
        ranked = sorted(whole, key=lambda trial: place(standing_of(trial), self.config.select_by))
        return [trial for trial in whole if trial.training.number <= len(self.fixed) or trial in ranked[:best]]

    def named(self, name: str, number: int, settings: Settings, seed: int = 0) -> Training:
        return Training("search", name, number, self.search.cycle_ends[-1], settings, seed=seed)


def is_whole(trial: Trial) -> bool:
    """Whether a trial was trained to its end and can be compared there."""
    return trial.training.state == FINISHED and standing_of(trial) is not None


def fixed_recipes(config: Experiment) -> dict[str, Settings]:
    """The first trials, by name: the student's own recipe, and the same without teachers.

    Every trial has settings of the same names: those of the space, and those in which the plain recipe differs.
    """
    assert config.search is not None
    student = config.student
    differing = {name: value for name, value in WITHOUT_TEACHERS.items() if value_of(student, name) != value}
    own: Settings = {name: value_of(student, name) for name in (*config.search.space, *differing)}
    recipes = {DEFAULT: own}
    if any(student.recipe.soft_weights) and config.search.trials > 1:
        recipes[PLAIN] = own | differing
    return recipes


STATES = {FINISHED: TrialState.COMPLETE, STOPPED: TrialState.PRUNED, RUNNING: TrialState.RUNNING}


def frozen(space: dict[str, BaseDistribution], trial: Trial, metric: Metric) -> FrozenTrial:
    """A trial as Optuna knows it: the lower a value, the better."""
    values = {row["epoch"]: rank(row, metric) for row in judged(trial.rows)}
    state = STATES.get(trial.training.state, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        params=encoded(space, trial.training.settings),
        distributions=space,
        value=values[max(values)] if state is TrialState.COMPLETE else None,
        intermediate_values=values,
        user_attrs={"name": trial.name},
    )


def trial_name(number: int, settings: Settings) -> str:
    """Such as "student-03-T2.4-soft0.61-mix0.30": also the folder's name and the actor's on the dashboard."""
    return "-".join([f"student-{number:02d}", *(f"{short(key)}{shown(value)}" for key, value in settings.items())])


def short(setting: str) -> str:
    name = setting.rpartition(".")[2]
    return SHORT.get(name, name)


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2g}"
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
