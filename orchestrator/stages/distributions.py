"""The search's space as Optuna has it, and places in it."""

import json
import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.config.experiment import Experiment
from orchestrator.config.space import Choices, Range
from orchestrator.config.trained import type_of
from orchestrator.training.record import Settings


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


def encoded(space: Mapping[str, BaseDistribution], settings: Settings) -> Settings:
    """Settings of the space as parameters of Optuna; a trial may change others, too."""
    return {
        name: json.dumps(settings[name]) if isinstance(kind, CategoricalDistribution) else settings[name]
        for name, kind in space.items()
    }


def decoded(parameters: Mapping[str, Any]) -> Settings:
    return {name: json.loads(value) if isinstance(value, str) else value for name, value in parameters.items()}


def is_within(space: Mapping[str, BaseDistribution], settings: Settings) -> bool:
    """Whether settings lie in the space; where the student's own recipe lies outside, Optuna is not told of it."""

    def holds(kind: BaseDistribution, value: Any) -> bool:
        if isinstance(kind, CategoricalDistribution):
            return value in kind.choices
        assert isinstance(kind, FloatDistribution | IntDistribution)
        return kind.low <= value <= kind.high

    return all(holds(space[name], value) for name, value in encoded(space, settings).items())


def at(kind: BaseDistribution, share: float) -> Any:
    """The value at a share in [0, 1) of a setting's range or choices."""
    if isinstance(kind, CategoricalDistribution):
        return kind.choices[int(share * len(kind.choices))]
    assert isinstance(kind, FloatDistribution | IntDistribution)
    low, high = float(kind.low), float(kind.high) + isinstance(kind, IntDistribution)  # every whole number is as likely
    value = math.exp(math.log(low) + share * math.log(high / low)) if kind.log else low + share * (high - low)
    return min(int(value), kind.high) if isinstance(kind, IntDistribution) else value


def position(kind: BaseDistribution, value: Any) -> float:
    """The share in [0, 1] of a setting's range that a value is at; of choices, its place among them."""
    if isinstance(kind, CategoricalDistribution):
        return float(kind.choices.index(value)) if value in kind.choices else -1.0
    assert isinstance(kind, FloatDistribution | IntDistribution)
    low, high = kind.low, kind.high
    if kind.log and value <= 0:  # the student's own value may lie anywhere
        return -1.0
    if kind.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def distance(space: Mapping[str, BaseDistribution], one: Settings, other: Settings) -> float:
    """How far settings are from others: the mean over the space of the difference in position, at most 1 of choices."""
    first, second = encoded(space, one), encoded(space, other)
    return sum(
        min(1.0, abs(position(kind, first[name]) - position(kind, second[name]))) for name, kind in space.items()
    ) / len(space)
