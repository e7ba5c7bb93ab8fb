"""Stopping rules: when a trial of the search ends before its last epoch."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Protocol

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from orchestrator.config.experiment import Experiment
from orchestrator.config.space import AshaSettings, NeverSettings
from orchestrator.training.best import is_lower_better, judged
from orchestrator.training.rows import Row


class StoppingRule(Protocol):
    """A scheduler of Ray Tune, made from its settings and the experiment."""

    def recall(self, trial_id: str, rows: Sequence[Row]) -> None:
        """Learn what a trial of an earlier, interrupted run reached: the rows of its epochs."""
        ...


class Never(FIFOScheduler):
    """Trains every trial to its last epoch."""

    def __init__(self, settings: NeverSettings, config: Experiment) -> None:
        super().__init__()

    def recall(self, trial_id: str, rows: Sequence[Row]) -> None:
        """No trial is compared with another."""


class Halving(AsyncHyperBandScheduler):
    """ASHA that remembers what trials of earlier, interrupted runs reached: its rungs are filled from their rows.

    Ray saves the rungs nowhere (ray-project/ray #30838).
    """

    def __init__(self, settings: AshaSettings, config: Experiment) -> None:
        assert config.search is not None
        self.select_by, self.cycle_ends, self.factor = (
            config.select_by,
            config.search.cycle_ends,
            settings.reduction_factor,
        )
        super().__init__(
            time_attr="rung",
            metric=config.select_by,
            mode=mode_of(config),
            grace_period=self.factor**settings.grace_cycles,
            # Above the last rung, so that rounding cannot drop it.
            max_t=self.factor ** len(self.cycle_ends) + 1,
            reduction_factor=self.factor,
        )

    def recall(self, trial_id: str, rows: Sequence[Row]) -> None:
        """Fill the rungs that the trial has passed."""
        assert self._metric_op is not None
        for row in judged(rows):
            named: Any = SimpleNamespace(trial_id=trial_id)  # all that a rung knows of a trial
            self._brackets[0].on_result(named, self.rung(row["epoch"]), self._metric_op * row[self.select_by])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
        return super().on_trial_result(tune_controller, trial, {**result, "rung": self.rung(result["epoch"])})

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
        super().on_trial_complete(tune_controller, trial, {**result, "rung": self.rung(result["epoch"])})

    def rung(self, epoch: int) -> int:
        """ASHA's clock: it passes a rung exactly at each cycle end, whatever the cycles' lengths."""
        cycles = sum(end <= epoch for end in self.cycle_ends)
        return self.factor**cycles if cycles else 0


def mode_of(config: Experiment) -> str:
    return "min" if is_lower_better(config.select_by) else "max"
