"""Cosine annealing with warm restarts (Loshchilov & Hutter 2017; PAPER 2.5)."""

import math
from collections.abc import Sequence

DOUBLING = (2, 6, 14, 30, 62, 126, 254, 510)
"""The paper's cycle ends. It leaves out 62, without which 254 and 510 would not end a cycle: taken as a slip."""


def learning_rate(position: float, cycle_ends: Sequence[int], highest: float, lowest: float) -> float:
    """The rate at `position` in epochs (0 <= position <= last cycle end; fractions are within an epoch).

    A cycle starts at `highest` and approaches `lowest` at its end, where the next one restarts.
    """
    start = max((end for end in cycle_ends if end <= position), default=0)
    end = next((end for end in cycle_ends if end > position), None)
    if end is None:
        return lowest
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * (position - start) / (end - start))) / 2
