"""Cosine annealing with warm restarts, against hand-computed rates and torch's own scheduler."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from models.schedule import DOUBLING, learning_rate

HIGHEST, LOWEST = 0.1, 1e-5


def rate(position: float, ends: tuple[int, ...] = DOUBLING) -> float:
    return learning_rate(position, ends, HIGHEST, LOWEST)


def test_cycles_double_from_two_epochs_to_510():
    lengths = [end - start for start, end in pairwise((0, *DOUBLING))]
    assert lengths == [2, 4, 8, 16, 32, 64, 128, 256]
    assert DOUBLING[-1] == 510


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, 0.1),
        (1, 0.050005),  # half of the first cycle: the mean of both rates
        (3, 0.08535680352541944),  # a quarter of 2..6: 1e-5 + 0.09999 (1 + sqrt(1/2)) / 2
        (4, 0.050005),
        (5, 0.014653196474580559),  # three quarters of it: 1e-5 + 0.09999 (1 - sqrt(1/2)) / 2
        (22, 0.050005),  # half of 14..30
        (382, 0.050005),  # half of 254..510
        (510, 1e-5),  # after the last cycle nothing restarts
    ],
)
def test_rates_worked_out_by_hand(position, expected):
    assert rate(position) == pytest.approx(expected, rel=1e-12)


def test_a_third_and_two_thirds_of_a_cycle_have_cosines_of_one_half():
    assert rate(1, (3,)) == pytest.approx(1e-5 + 0.75 * 0.09999)
    assert rate(2, (3,)) == pytest.approx(1e-5 + 0.25 * 0.09999)


@pytest.mark.parametrize("end", DOUBLING)
def test_a_cycle_ends_at_the_lowest_rate_and_the_next_restarts_at_the_highest(end):
    assert rate(end - 1e-4) == pytest.approx(LOWEST, abs=1e-9)
    if end != DOUBLING[-1]:
        assert rate(end) == HIGHEST


def test_the_papers_list_without_62_anneals_from_30_to_126_in_one_go():
    ends = (2, 6, 14, 30, 126, 254, 510)
    assert rate(62, ends) == pytest.approx(1e-5 + 0.75 * 0.09999)  # a third of 30..126
    assert rate(125.999, ends) == pytest.approx(LOWEST, abs=1e-9)


def test_equals_torchs_scheduler_over_five_cycles():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=HIGHEST)
    optimiser.step()
    peer = CosineAnnealingWarmRestarts(optimiser, T_0=2, T_mult=2, eta_min=LOWEST)
    for quarter in range(62 * 4):
        peer.step(quarter / 4)  # pyright: ignore[reportArgumentType]  # fractions of an epoch are its documented use
        assert rate(quarter / 4) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    fractions=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
    data=st.data(),
)
def test_within_a_cycle_the_rate_falls_between_its_bounds(lengths, fractions, data):
    ends = tuple(sum(lengths[: index + 1]) for index in range(len(lengths)))
    cycle = data.draw(st.integers(0, len(lengths) - 1))
    start = ends[cycle] - lengths[cycle]
    early, late = sorted(fractions)
    first, second = (rate(min(start + f * lengths[cycle], math.nextafter(ends[cycle], 0)), ends) for f in (early, late))
    assert LOWEST - 1e-12 <= second <= first <= HIGHEST + 1e-12
