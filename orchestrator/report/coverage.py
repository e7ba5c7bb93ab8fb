"""The interval of an accuracy that is the mean over classes, also where a class has one clip."""

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


def interval(confusion: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The 95 % interval of macro accuracy if clips were independent; (0, 1) where no class has a clip.

    Each class has its exact interval (Clopper and Pearson 1934); that of their mean follows from the distances of
    those limits (MOVER, Zou and Donner 2008). Simulated coverage: docs/benchmarks.md.
    """
    from scipy.special import betaincinv  # a tenth of a second

    matrix = np.asarray(confusion, float)
    clips = matrix.sum(1)
    hits, clips = matrix.diagonal()[clips > 0], clips[clips > 0]
    if not len(clips):
        return 0.0, 1.0
    tail = (1 - LEVEL) / 2
    misses = clips - hits
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), misses + 1, tail), 0.0)
    high = np.where(misses > 0, betaincinv(hits + 1, np.maximum(misses, 1), 1 - tail), 1.0)
    shares = hits / clips
    mean, classes = float(shares.mean()), len(clips)
    down = float(np.sqrt(((shares - low) ** 2).sum()) / classes)
    up = float(np.sqrt(((high - shares) ** 2).sum()) / classes)
    return max(0.0, mean - down), min(1.0, mean + up)
