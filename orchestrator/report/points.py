"""Which epochs of many trainings are drawn: more points than a screen has make a page slow, not better."""

from collections.abc import Sequence

TOGETHER = 40_000  # points of all trainings of a stage
LEAST, MOST = 32, 1024  # points of one


def points_each(trainings: int) -> int:
    """How many epochs of each training are drawn: a power of two, so that it seldom changes while trainings begin."""
    share = TOGETHER // max(trainings, 1)
    return max(LEAST, min(MOST, 2 ** (share.bit_length() - 1)))


def drawn(count: int, ends: Sequence[int], most: int) -> list[int]:
    """Places of the epochs that are drawn of `count`, at most `most`: first, last, cycle ends, and even steps between.

    `ends` are the places of cycle ends, where trainings are compared; of very many the last ones are drawn.
    """
    if count <= most:
        return list(range(count))
    kept = {0, count - 1, *ends[-(most // 2) :]}
    steps = most - len(kept)
    kept |= {(count - 1) * step // (steps + 1) for step in range(1, steps + 1)}
    return sorted(kept)
