"""Stopping rules: which trials of the search end before their last epoch. stages/verdicts.py applies them."""

import math
from collections.abc import Sequence
from typing import Protocol

from orchestrator.config.search import HalvingSettings, MedianSettings, NoneSettings


class StoppingRule(Protocol):
    """Made from its settings."""

    def rungs(self, cycle_ends: Sequence[int]) -> Sequence[int]:
        """The cycle ends at which trials are judged."""
        ...

    def stops(self, value: float, references: Sequence[float]) -> bool:
        """Whether a trial stops at a rung: its value there, and those of the earlier trials that reached the rung.

        The lower, the better; infinite for a trial that failed.
        """
        ...


class Halving:
    """A trial stops where it is worse than the 1 / eta quantile of at least eta others (Li et al. 2020)."""

    def __init__(self, settings: HalvingSettings) -> None:
        self.settings = settings

    def rungs(self, cycle_ends: Sequence[int]) -> Sequence[int]:
        return cycle_ends[self.settings.grace_cycles - 1 : -1]

    def stops(self, value: float, references: Sequence[float]) -> bool:
        eta = self.settings.reduction_factor
        return len(references) >= eta and value > quantile(references, 1 / eta)


class Median:
    """A trial stops where it is worse than the median of enough others."""

    def __init__(self, settings: MedianSettings) -> None:
        self.settings = settings

    def rungs(self, cycle_ends: Sequence[int]) -> Sequence[int]:
        return cycle_ends[self.settings.grace_cycles - 1 : -1]

    def stops(self, value: float, references: Sequence[float]) -> bool:
        return len(references) >= self.settings.least and value > quantile(references, 0.5)


class Never:
    """Trains every trial to its last epoch."""

    def __init__(self, settings: NoneSettings) -> None:
        self.settings = settings

    def rungs(self, cycle_ends: Sequence[int]) -> Sequence[int]:
        return ()

    def stops(self, value: float, references: Sequence[float]) -> bool:
        return False


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation, as NumPy has it; beside it, values may be infinite, which NumPy makes nan of."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    part = place - below
    return ordered[below] if part == 0 else ordered[below] * (1 - part) + ordered[below + 1] * part
