"""Samplers: what proposes the settings of the next trial."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from models.seeding import derive
from orchestrator.config.search import (
    GaussianProcessSettings,
    GeneticSettings,
    RandomSettings,
    SobolSettings,
    TpeSettings,
)
from orchestrator.stages.distributions import at

Space = Mapping[str, BaseDistribution]


class Sampler(Protocol):
    """Made from its settings."""

    looks_back: bool  # whether a proposal depends on what trials before it reached

    def propose(self, space: Space, past: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
        """The parameters of trial `number`, from 1.

        `past` are the trials before it in the order of their numbers, `seed` is the experiment's; the lower a trial's
        value, the better.
        """
        ...


class Sobol:
    """Point `number` of a scrambled Sobol sequence (Owen 1998)."""

    looks_back = False

    def __init__(self, settings: SobolSettings) -> None:
        self.settings = settings

    def propose(self, space: Space, past: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
        engine = engine_of(len(space), seed_of(seed, "sobol")).reset()
        point = engine.fast_forward(number - 1).draw(dtype=torch.float64)[0].tolist()
        return {name: at(kind, share) for (name, kind), share in zip(space.items(), point, strict=True)}


@cache
def engine_of(dimensions: int, seed: int) -> torch.quasirandom.SobolEngine:
    return torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed)


class Random:
    looks_back = False

    def __init__(self, settings: RandomSettings) -> None:
        self.settings = settings

    def propose(self, space: Space, past: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
        return asked(optuna.samplers.RandomSampler(seed=seed_of(seed, number)), space, [])


class Tpe:
    looks_back = True

    def __init__(self, settings: TpeSettings) -> None:
        self.settings = settings

    def propose(self, space: Space, past: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
        sampler = optuna.samplers.TPESampler(
            multivariate=True, constant_liar=True, n_startup_trials=1, seed=seed_of(seed, number)
        )
        return asked(sampler, space, past)


class GaussianProcess:
    looks_back = True

    def __init__(self, settings: GaussianProcessSettings) -> None:
        self.settings = settings

    def propose(self, space: Space, past: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
        sampler = optuna.samplers.GPSampler(n_startup_trials=1, seed=seed_of(seed, number))
        return asked(sampler, space, past if is_several(past) else [at_first(trial) for trial in past])


class Genetic:
    """NSGA-II on generations of trials in the order of their numbers."""

    looks_back = True

    def __init__(self, settings: GeneticSettings) -> None:
        self.settings = settings

    def propose(self, space: Space, past: list[FrozenTrial], number: int, seed: int) -> dict[str, Any]:
        population = self.settings.population
        sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed_of(seed, number))
        complete = [trial for trial in past if trial.state is TrialState.COMPLETE]
        key = sampler._get_generation_key()  # a fresh study knows no generations: they are told by this attribute
        generations = [
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                values=trial.values,
                system_attrs={key: place // population},
            )
            for place, trial in enumerate(complete)
        ]
        return asked(sampler, space, generations)


def is_several(past: Sequence[FrozenTrial]) -> bool:
    """Whether trials have several objectives."""
    return any(trial.values and len(trial.values) > 1 for trial in past)


def at_first(trial: FrozenTrial) -> FrozenTrial:
    """A trial as complete at its first judged cycle end: values after different numbers of epochs do not compare."""
    values = trial.intermediate_values
    if not values:
        return trial
    return optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=values[min(values)])


def asked(sampler: optuna.samplers.BaseSampler, space: Space, past: list[FrozenTrial]) -> dict[str, Any]:
    """What one of Optuna's samplers proposes to a study that is made for this question alone."""
    torch.set_num_threads(1)  # sums of a Gaussian process depend on it, and machines differ in their cores
    several = next((len(trial.values) for trial in past if trial.values), 1)
    study = optuna.create_study(sampler=sampler, directions=[StudyDirection.MINIMIZE] * several)
    study.add_trials(past)
    return study.ask(dict(space)).params


def seed_of(seed: int, *purpose: Any) -> int:
    return derive(seed, "search", *purpose) % 2**32
