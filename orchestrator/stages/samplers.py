"""Samplers: what proposes the settings of the next trial."""

from collections.abc import Callable

import optuna

from models.table import Settings
from orchestrator.config.space import RandomSettings, TpeSettings

Sampler = Callable[[Settings, int], optuna.samplers.BaseSampler]
"""An implementation: (its settings, seed) -> Optuna's sampler of one proposal."""


def tpe(settings: TpeSettings, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(n_startup_trials=settings.startup_trials, seed=seed)


def random(_settings: RandomSettings, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)
