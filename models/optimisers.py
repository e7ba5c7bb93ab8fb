"""Optimisers with their schedules: the steps of a training, and the learning rate of each."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from models.recipe import Recipe, SgdSettings
from models.schedule import learning_rate

State = dict[str, Tensor]
"""What an optimiser remembers between steps, which snapshots hold."""


class Optimiser(Protocol):
    """Made from its settings and the recipe."""

    def start(self, parameters: Mapping[str, Tensor]) -> State:
        """The state before the first step, on the parameters' device."""
        ...

    def rate(self, position: float) -> float:
        """The learning rate at `position` in epochs; fractions are within an epoch."""
        ...

    def step(self, parameters: Mapping[str, Tensor], state: State, rate: float) -> None:
        """Update parameters, by their gradients, and state in place."""
        ...


class Sgd:
    """SGD with momentum and weight decay, bit for bit what torch.optim.SGD does, under cosine annealing with restarts.

    Written out, because building torch.optim.SGD imports torch's compiler: seconds in every trial's process.
    """

    def __init__(self, settings: SgdSettings, recipe: Recipe) -> None:
        self.settings, self.recipe = settings, recipe

    def start(self, parameters: Mapping[str, Tensor]) -> State:
        return {name: torch.zeros_like(value) for name, value in parameters.items()}

    def rate(self, position: float) -> float:
        recipe = self.recipe
        return learning_rate(position, recipe.cycle_ends, recipe.learning_rate, recipe.final_learning_rate)

    @torch.no_grad()
    def step(self, parameters: Mapping[str, Tensor], state: State, rate: float) -> None:
        values, momenta = list(parameters.values()), [state[name] for name in parameters]
        gradients = [value.grad for value in values if value.grad is not None]
        assert len(gradients) == len(values)
        # Of all parameters at once: on a GPU that is a few launches instead of four for each.
        decayed = torch._foreach_add(gradients, values, alpha=self.settings.weight_decay)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_mul_(momenta, self.settings.momentum)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(momenta, decayed)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(values, momenta, alpha=-rate)  # pyright: ignore[reportPrivateImportUsage]
