"""How one set of weights is made of a training's snapshots, and the ways that are tried."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.averaging import greedy
from orchestrator.training.best import is_measured, rank
from orchestrator.training.rows import JudgedRow, Metric, Metrics

TINY = 1e-6  # of a log loss: validation may be so small that a student has none


@dataclass(frozen=True)
class Way:
    """An average of snapshots."""

    parts: tuple[tuple[int, float], ...]  # epoch and weight of each
    moving: bool = False  # of the cycles' moving averages, in place of the weights at their ends

    @classmethod
    def of(cls, *epochs: int, moving: bool = False) -> "Way":
        """All with the same weight."""
        return cls(tuple((epoch, 1.0) for epoch in epochs), moving)

    @property
    def weights(self) -> dict[int, float]:
        return dict(self.parts)


@dataclass(frozen=True)
class Averaged:
    """The outcome of averaging: what was tried on validation, what was kept."""

    kept: str
    weights: dict[int, float]  # of the kept one: epoch -> weight
    moving: bool  # whether they are of the cycles' moving averages
    temperatures: tuple[float, float]  # by which the scene and the group logits are divided
    tried: dict[str, Metrics]  # way -> metrics on validation
    fp16: Metrics  # the kept one's, calibrated, its weights rounded to fp16


def ways_of(
    rows: Mapping[int, JudgedRow],
    epochs: Sequence[int],
    metric: Metric,
    judge: Callable[[Way], Metrics],
    has_moving: bool,
) -> dict[str, Way]:
    """Ways to average the snapshots of `epochs`, by name. `rows` are of these epochs, `judge` evaluates on validation.

    With `has_moving` the last cycle's moving average is one of them.
    """

    def loss(some: Sequence[int]) -> float:
        metrics = judge(Way.of(*some))
        return rank(metrics, metric) if is_measured(metrics) else math.inf

    order = sorted(epochs, key=lambda epoch: rank(rows[epoch], metric))
    kept = sorted(greedy(order, loss))
    last = epochs[-1]
    ways = {
        f"last, epoch {last}": Way.of(last),
        f"single, epoch {order[0]}": Way.of(order[0]),
        "plain average": Way.of(*epochs),
        "weighted average": Way(tuple((epoch, 1 / max(rows[epoch]["log_loss"], TINY)) for epoch in epochs)),
        f"greedy average, {', '.join(map(str, kept))}": Way.of(*kept),
    }
    return ways | ({f"moving average, epoch {last}": Way.of(last, moving=True)} if has_moving else {})
