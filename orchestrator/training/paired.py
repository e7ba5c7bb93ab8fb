"""How sure a difference between models is: the bootstrap over locations and seeds, on the same clips for all.

Clips of one location resemble each other, so whole locations are drawn; trainings differ by their seed, so seeds are
drawn, too. Of n, n - 1 are drawn with replacement, so that the variance is right for small n as well (Rao & Wu 1988).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.training.data import Split
from orchestrator.training.metrics import MeanOver
from orchestrator.training.rows import Metric
from orchestrator.training.scores import Scores

DRAWS = 2000

type Weights = NDArray[np.float64]  # (draw, clip)


@dataclass(frozen=True)
class Clips:
    """What is known of the clips that models are compared on."""

    labels: NDArray[np.integer]  # (clip,)
    devices: Sequence[str]
    locations: Sequence[str]

    def cells(self, metric: Metric, mean_over: MeanOver) -> list[list[NDArray[np.bool_]]]:
        """The metric as a mean of means: for each device, or for all clips, the parts whose means are averaged.

        Accuracy is the mean over classes of each class's share; log loss is the mean over clips.
        """
        devices = np.array(self.devices)
        outer = [np.full(len(self.labels), True)]
        if mean_over == "devices":
            outer = [devices == name for name in sorted(set(self.devices))]
        if metric == "log_loss":
            return [[rows] for rows in outer]
        return [[rows & (self.labels == label) for label in np.unique(self.labels[rows])] for rows in outer]


@dataclass(frozen=True)
class Difference:
    """The first model's metric minus the second's."""

    value: float
    low: float  # of the 95 % interval
    high: float
    error: float  # standard error


def clips_of(*splits: Split) -> Clips:
    """The clips of several splits, one after another."""
    return Clips(
        np.concatenate([split.scene for split in splits]),
        [device for split in splits for device in split.devices],
        [location for split in splits for location in split.locations],
    )


def draws_of(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of `count` is drawn (draw, item), scaled to sum `count`; one alone is always drawn."""
    if count == 1:
        return np.ones((DRAWS, 1))
    drawn = rng.multinomial(count - 1, np.full(count, 1 / count), size=DRAWS)
    return drawn.astype(np.float64) * (count / (count - 1))


def weights_of(clips: Clips, seed: int) -> Weights:
    """The weight of each clip in each draw: how often its location is drawn."""
    names = sorted(set(clips.locations))
    place = {name: index for index, name in enumerate(names)}
    return draws_of(len(names), np.random.default_rng(seed))[:, [place[name] for name in clips.locations]]


def metric_in(draws: Weights, scores: Sequence[Scores], clips: Clips, metric: Metric, mean_over: MeanOver) -> Weights:
    """The metric in each draw (draw, model). A part of which no clip was drawn is left out of the mean."""
    values = np.stack([one.loss if metric == "log_loss" else one.hit for one in scores], axis=1).astype(np.float64)
    means = []
    for parts in clips.cells(metric, mean_over):
        totals, counts = np.zeros((len(draws), len(scores))), np.zeros((len(draws), 1))
        for rows in parts:
            weight = draws[:, rows].sum(1, keepdims=True)
            mean = np.divide(
                draws[:, rows] @ values[rows], weight, out=np.zeros((len(draws), len(scores))), where=weight > 0
            )
            totals += mean
            counts += weight > 0
        means.append((totals, counts))
    found = [np.where(counts > 0, totals / np.maximum(counts, 1), np.nan) for totals, counts in means]
    return np.nanmean(np.stack(found), axis=0)


def metric_of(scores: Scores, clips: Clips, metric: Metric, mean_over: MeanOver) -> float:
    """The metric itself, over all clips."""
    return float(metric_in(np.ones((1, len(clips.labels))), [scores], clips, metric, mean_over)[0, 0])


@dataclass(frozen=True)
class Compared:
    """Several models, each trained with the same seeds, on the same clips."""

    values: NDArray[np.float64]  # (model,) the mean over seeds
    drawn: NDArray[np.float64]  # (draw, model) the same in each draw of locations and seeds

    @classmethod
    def of(
        cls, models: Sequence[Sequence[Scores]], clips: Clips, metric: Metric, mean_over: MeanOver, seed: int
    ) -> "Compared":
        """models (model, seed); equal places of two models are paired."""
        every = [scores for seeds in models for scores in seeds]
        shape = (len(models), len(models[0]))
        whole = metric_in(np.ones((1, len(clips.labels))), every, clips, metric, mean_over).reshape(shape)
        drawn = metric_in(weights_of(clips, seed), every, clips, metric, mean_over).reshape(-1, *shape)
        seeds = draws_of(shape[1], np.random.default_rng((seed, 1)))
        return cls(whole.mean(1), (drawn * seeds[:, None, :]).mean(2))

    def difference(self, first: int, second: int) -> Difference:
        drawn = self.drawn[:, first] - self.drawn[:, second]
        low, high = np.quantile(drawn, (0.025, 0.975))
        return Difference(
            float(self.values[first] - self.values[second]), float(low), float(high), float(drawn.std(ddof=1))
        )

    def wins(self, is_lower_better: bool) -> NDArray[np.float64]:
        """(model,) the share of the draws in which a model is the best of all."""
        best = self.drawn.argmin(1) if is_lower_better else self.drawn.argmax(1)
        return np.bincount(best, minlength=len(self.values)) / len(self.drawn)
