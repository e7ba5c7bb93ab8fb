"""Which cycle end, trial or average is the best: one rule for the search, the terminal, the live page and the report.

Only ends of cosine cycles are judged, and only where both metrics are finite. Among trials, those that got furthest
are compared, by their last judged cycle end. Among equals the earlier one is the best.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, cast

from orchestrator.training.record import FAILED, Trial
from orchestrator.training.rows import JudgedRow, Measured, Metric, Metrics, Row


def is_lower_better(metric: Metric) -> bool:
    """Whether a metric is a loss."""
    return metric == "log_loss"


def rank(metrics: Measured, metric: Metric) -> float:
    """Place by log loss or by accuracy: the lower, the better."""
    return metrics[metric] if is_lower_better(metric) else -metrics[metric]


def is_measured(metrics: Metrics) -> TypeGuard[Measured]:
    """Whether both metrics are there and finite."""
    return all(value is not None and math.isfinite(value) for value in (metrics["accuracy"], metrics["log_loss"]))


def judged(rows: Iterable[Row]) -> list[JudgedRow]:
    """The rows by which a training is compared with others: cycle ends that were measured."""
    return [cast("JudgedRow", row) for row in rows if row["cycle_end"] and is_measured(row)]


def best_of[T](candidates: Iterable[T], metric: Metric, measured: Callable[[T], Metrics]) -> T | None:
    """The candidate with the best metrics; None where no candidate has any that are finite."""
    best: tuple[float, T] | None = None
    for candidate in candidates:
        metrics = measured(candidate)
        if is_measured(metrics) and (best is None or rank(metrics, metric) < best[0]):
            best = rank(metrics, metric), candidate
    return best[1] if best else None


@dataclass(frozen=True)
class Standing:
    """How a trial stands against others: by its last judged cycle end."""

    trial: str
    epoch: int
    accuracy: float
    log_loss: float

    @property
    def metrics(self) -> Measured:
        return {"accuracy": self.accuracy, "log_loss": self.log_loss}


def standing(trial: str, rows: Sequence[Row]) -> Standing | None:
    """None before the first cycle end that can be judged."""
    ends = judged(rows)
    if not ends:
        return None
    return Standing(trial, ends[-1]["epoch"], ends[-1]["accuracy"], ends[-1]["log_loss"])


def standing_of(trial: Trial) -> Standing | None:
    """The same of a recorded trial; None of one that failed, too."""
    return None if trial.training.state == FAILED else standing(trial.name, trial.rows)


def place(candidate: Standing | None, metric: Metric) -> tuple[bool, int, float]:
    """Sort key of trials, the best first: how far it got, then what it reached there. Without a standing, last."""
    if candidate is None:
        return True, 0, 0.0
    return False, -candidate.epoch, rank(candidate.metrics, metric)


def winner(candidates: Iterable[Standing | None], metric: Metric) -> Standing | None:
    """The best trial, if any has a standing; `candidates` are in the order of their numbers."""
    return min(candidates, key=lambda candidate: place(candidate, metric), default=None)
