"""The trainings of a search by number: the student's own recipe, the plain one, proposals; then further folds of those
that were trained to their end; at last the finalists.

Every one of them follows from the settings, the seed, and what is known of trials with lower numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from models.seeding import derive
from orchestrator.config.experiment import Experiment
from orchestrator.config.search import SAMPLERS, SobolSettings
from orchestrator.config.trained import value_of
from orchestrator.errors import UserError
from orchestrator.stages.costs import excess
from orchestrator.stages.distributions import decoded, distributions, encoded, is_within
from orchestrator.stages.objectives import ranked, values_of
from orchestrator.stages.samplers import Sampler, Sobol
from orchestrator.stages.verdicts import Verdicts
from orchestrator.training.best import judged, rank, standing_of
from orchestrator.training.record import FINISHED, FIRST_CUTS, RUNNING, STOPPED, Settings, Training, Trial
from orchestrator.training.rows import Measured

WITHOUT_TEACHERS: Settings = {"recipe.soft_weight": 0.0, "recipe.group_soft_weight": None}
DEFAULT, PLAIN = "default", "plain"  # the trials that are always candidates
EVENLY = 10  # trials that fill the space, at most, where the lag does not want more
DRAWS = 100  # of one proposal, until one is within the limits
type Part = Literal["all", "first", "recipe"]  # of a trial: what a proposal may know
ALL: Part = "all"  # what counts of it
FIRST: Part = "first"  # up to the first cycle end at which trials are judged
RECIPE: Part = "recipe"


class Rounds:
    """What each number of a search is trained with."""

    def __init__(self, config: Experiment, verdicts: Verdicts) -> None:
        assert config.search is not None
        self.config, self.search, self.verdicts = config, config.search, verdicts
        self.space = distributions(config)
        self.sampler: Sampler = SAMPLERS.implementation(self.search.sampler)(self.search.sampler)
        self.fixed = fixed_recipes(config)
        self.parts: dict[tuple[int, Part], FrozenTrial | None] = {}
        # Before the lag nothing could be known; more than a few even points were worth less than proposals
        # (docs/lab-notes.md, 2026-11-29).
        self.even = max(len(self.fixed), min(round(self.search.trials / 4), EVENLY), self.search.lag)

    def training(self, number: int) -> Training | None:
        """The training of a number; None where it is not known yet, or will never be."""
        if number <= self.search.trials:
            return self.trial(number)
        further = self.further()
        place = number - self.search.trials - 1
        return further[place] if place < len(further) else None

    @property
    def total(self) -> int:
        """Trainings in all; before the finalists are known, the most that there can be."""
        finalists, trials, folds = self.search.finalists, self.search.trials, len(self.config.search_cuts)
        if self.is_settled(trials):
            folded = trials + len(self.folded)
            if self.is_settled(folded):
                return folded + len(self.last_round)
        else:
            folded = trials * folds
        return folded + ((finalists.best + len(self.fixed)) * finalists.seeds * folds if finalists else 0)

    def trial(self, number: int) -> Training | None:
        """A trial of the first round: fixed, one of the points that fill the space, or what the sampler proposes."""
        recipes = list(self.fixed.items())
        if number <= len(recipes):
            name, settings = recipes[number - 1]
            return self.named(trial_name(number, name), number, settings)
        looks_back = self.sampler.looks_back and number > self.even
        sampler = self.sampler if looks_back or not self.sampler.looks_back else Sobol(SobolSettings())
        past = self.past(number) if looks_back else []
        if past is None:
            return None
        drawn = self.drawn(sampler, past, number)
        return self.named(trial_name(number), number, self.fixed[DEFAULT] | drawn)

    def drawn(self, sampler: Sampler, past: list[FrozenTrial], number: int) -> Settings:
        """The first proposal within the limits. Raises UserError where none is found."""
        broken = None
        for draw in range(DRAWS):
            seed = derive(self.config.seed, "draw", draw) if draw else self.config.seed
            drawn = decoded(sampler.propose(self.space, past, number, seed))
            broken = excess(self.config, self.config.search_recipe(drawn))
            if broken is None:
                return drawn
        raise UserError(
            f"none of {DRAWS} proposals of search.space is within limits (the last has {broken}): narrow the "
            f"space, or raise the limits"
        )

    def past(self, number: int) -> list[FrozenTrial] | None:
        """What a proposal may know of the trials before it, whenever it is made; None where that is not there yet."""
        verdicts, lag = self.verdicts, self.search.lag
        whole = lag if len(self.search.objectives) > 1 else 4 * lag  # samplers of several objectives know ends alone
        found = []
        for other in range(1, number):
            if other <= number - whole:
                if not verdicts.is_settled(other):
                    return None
                found.append(self.known(other, ALL))
            elif other <= number - lag:
                if not verdicts.is_known(other, verdicts.first):
                    return None
                found.append(self.known(other, FIRST))
            else:
                found.append(self.known(other, RECIPE))
        return [trial for trial in found if trial is not None]

    def known(self, number: int, part: Part) -> FrozenTrial | None:
        """That part of a trial as a proposal may know it, which never changes; None where the space has changed."""
        if (number, part) not in self.parts:
            trial = self.verdicts.trials[number]
            if part == ALL:
                trial = self.verdicts.counted(trial)
            elif part == FIRST:
                trial = self.verdicts.until(trial, self.verdicts.first)
            else:
                trial = Trial(replace(trial.training, state=RUNNING), ())
            is_here = is_within(self.space, trial.training.settings)
            self.parts[number, part] = frozen(self.config, self.space, trial) if is_here else None
        return self.parts[number, part]

    def is_settled(self, last: int) -> bool:
        """Whether everything up to a number is settled."""
        return all(self.verdicts.is_settled(number) for number in range(1, last + 1))

    def further(self) -> list[Training]:
        """The trainings after the trials, as far as they are known."""
        if not self.is_settled(self.search.trials):
            return []
        known = self.folded
        return known + self.last_round if self.is_settled(self.search.trials + len(known)) else known

    @cached_property
    def folded(self) -> list[Training]:
        """Further folds of the trials that were trained to their end, once all trials are settled."""
        again = [
            replace(trial.training, trial=again_name(trial.name, cut=cut), cut=cut)
            for trial in self.whole()
            for cut in self.config.search_cuts[1:]
        ]
        return self.begun(again, self.search.trials)

    @cached_property
    def last_round(self) -> list[Training]:
        """The finalists with other seeds, on every fold, once the further folds are settled."""
        finalists = self.search.finalists
        if finalists is None:
            return []
        again = [
            replace(trial.training, trial=again_name(trial.name, seed, cut), seed=seed, cut=cut)
            for trial in self.finalists(finalists.best)
            for seed in range(1, finalists.seeds + 1)
            for cut in self.config.search_cuts
        ]
        return self.begun(again, self.search.trials + len(self.folded))

    def begun(self, trainings: Sequence[Training], after: int) -> list[Training]:
        """The trainings as those that follow number `after`."""
        return [replace(training, number=number, state=RUNNING) for number, training in enumerate(trainings, after + 1)]

    def whole(self) -> list[Trial]:
        """The trials that were trained to their end."""
        trials = [self.verdicts.counted(self.verdicts.trials[number]) for number in range(1, self.search.trials + 1)]
        return [trial for trial in trials if is_whole(trial)]

    def finalists(self, best: int) -> list[Trial]:
        """The fixed recipes and the best of all, as far as they were trained to the end on every fold."""
        counted = [self.verdicts.counted(trial) for trial in self.verdicts.trials.values()]
        settings = {trial.name: trial.training.settings for trial in counted}
        reached = {
            name: values_of(self.config, metrics, settings[name])
            for name, metrics in mean_over_folds(self.config, counted).items()
        }
        chosen = ranked(reached)[:best]
        return [
            trial
            for trial in self.whole()
            if trial.name in reached and (trial.training.number <= len(self.fixed) or trial.name in chosen)
        ]

    def named(self, name: str, number: int, settings: Settings) -> Training:
        return Training("search", name, number, self.search.cycle_ends[-1], settings, cut=self.config.search_cuts[0])


def again_name(trial: str, seed: int = 0, cut: str = "") -> str:
    """Name of a trial's training with another seed, or on another fold."""
    return "-".join([trial, *([] if cut in FIRST_CUTS else [cut]), *([f"seed{seed}"] if seed else [])])


def is_whole(trial: Trial) -> bool:
    """Whether a trial was trained to its end and can be compared there."""
    return trial.training.state == FINISHED and standing_of(trial) is not None


def mean_over_folds(config: Experiment, trials: Iterable[Trial]) -> dict[str, Measured]:
    """What the trials of the first round reached that were trained to their end on every fold, by number."""
    whole = {trial.name: trial for trial in trials if is_whole(trial)}
    reached: dict[str, Measured] = {}
    for trial in sorted(whole.values(), key=lambda trial: trial.training.number):
        names = [again_name(trial.name, cut=cut) for cut in config.search_cuts]
        if trial.training.is_first and all(name in whole for name in names):
            ends = [judged(whole[name].rows)[-1] for name in names]
            reached[trial.name] = {
                "accuracy": fmean(end["accuracy"] for end in ends),
                "log_loss": fmean(end["log_loss"] for end in ends),
            }
    return reached


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


def frozen(config: Experiment, space: dict[str, BaseDistribution], trial: Trial) -> FrozenTrial:
    """A trial as Optuna knows it: the lower a value, the better. Of several objectives select_by's is the first."""
    reached = {row["epoch"]: rank(row, config.select_by) for row in judged(trial.rows)}
    state = STATES.get(trial.training.state, TrialState.FAIL)
    is_complete = state is TrialState.COMPLETE
    values = values_of(config, judged(trial.rows)[-1], trial.training.settings) if is_complete else None
    return optuna.trial.create_trial(
        state=state,
        params=encoded(space, trial.training.settings),
        distributions=space,
        values=values,
        intermediate_values=reached,
        user_attrs={"name": trial.name},
    )


def trial_name(number: int, recipe: str = "") -> str:
    """Such as "student-03", or "student-01-default", which is its folder, too. Tables have columns for its settings."""
    return f"student-{number:02d}{recipe and '-'}{recipe}"
