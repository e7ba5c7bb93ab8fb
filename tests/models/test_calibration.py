"""The temperature that calibrates: by hand, against scipy, and what it must not change."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from models.calibration import COLDEST, HOTTEST, fit_temperature


def test_by_hand_two_classes():
    """Three of four clips with logits (1, 0) are of class 0: the softmax is 3/4 at 1 / T = ln 3."""
    scores = torch.tensor([[1.0, 0.0]] * 4)
    assert fit_temperature(scores, torch.tensor([0, 0, 0, 1])) == pytest.approx(1 / math.log(3), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 3.0))
def test_it_is_the_minimum_of_the_cross_entropy(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(200, 5, generator=generator)
    labels = scores.softmax(1).multinomial(1, generator=generator).squeeze(1)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(scores.double() / math.exp(log_temperature), labels))

    found = minimize_scalar(loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded")
    assert loss(math.log(fit_temperature(scores, labels))) == pytest.approx(float(found.fun), abs=1e-6)


def test_labels_drawn_from_the_scores_need_no_correction_and_scaled_scores_need_their_scale():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 10, generator=generator)
    labels = scores.softmax(1).multinomial(1, generator=generator).squeeze(1)
    assert fit_temperature(scores, labels) == pytest.approx(1.0, abs=0.03)
    assert fit_temperature(0.2 * scores, labels) == pytest.approx(0.2, abs=0.01)
    assert fit_temperature(0.2 * scores - 3.0, labels) == pytest.approx(0.2, abs=0.01)  # log-probabilities are as good


def test_what_is_always_right_or_always_wrong_stays_within_bounds():
    scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(scores, torch.tensor([0, 1])) == pytest.approx(COLDEST)
    assert fit_temperature(scores, torch.tensor([1, 0])) == pytest.approx(HOTTEST)
