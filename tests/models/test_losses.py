"""Losses of literal logits, worked out by hand. ln 3 and 2 ln 3 make probabilities of 1/4 and 3/4."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import classifier_loss, distillation, soften

LN3 = math.log(3)


def test_cross_entropy_with_soft_targets():
    logits, targets = torch.tensor([[0.0, LN3]]), torch.tensor([[0.5, 0.5]])
    # p = (1/4, 3/4): -(ln(1/4) + ln(3/4)) / 2 = ln(16/3) / 2
    assert classifier_loss(logits, targets, None, 0.0, 2.0).item() == pytest.approx(math.log(16 / 3) / 2)


def test_cross_entropy_is_a_mean_over_the_batch():
    logits = torch.tensor([[0.0, LN3], [0.0, LN3], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
    expected = (math.log(4) + math.log(4 / 3) + math.log(2)) / 3
    assert classifier_loss(logits, targets, None, 0.0, 1.0).item() == pytest.approx(expected)


def test_distillation_is_the_divergence_times_temperature_squared():
    logits, soft = torch.tensor([[0.0, 2 * LN3]]), torch.tensor([[0.5, 0.5]])
    # At T = 2 the student says (1/4, 3/4): KL = ln 2 / 2 + ln(2/3) / 2 = ln(4/3) / 2, times 4
    assert distillation(logits, soft, 2.0).item() == pytest.approx(2 * math.log(4 / 3))


def test_distillation_is_summed_over_classes_and_a_mean_over_the_batch():
    logits = torch.tensor([[0.0, 2 * LN3], [0.0, 2 * LN3]])
    soft = torch.tensor([[0.5, 0.5], [0.25, 0.75]])  # the second row agrees with the student
    assert distillation(logits, soft, 2.0).item() == pytest.approx(math.log(4 / 3), abs=1e-6)


def test_distillation_tolerates_certain_teachers():
    logits = torch.tensor([[0.0, LN3]], requires_grad=True)
    loss = distillation(logits, torch.tensor([[1.0, 0.0]]), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert logits.grad is not None and torch.allclose(logits.grad, torch.tensor([[-0.75, 0.75]]))


@settings(deadline=None, max_examples=50)
@given(
    logits=st.lists(st.lists(st.floats(-4, 4), min_size=3, max_size=3), min_size=1, max_size=4),
    scores=st.lists(st.floats(-4, 4), min_size=3, max_size=3),
    temperature=st.floats(0.5, 8),
)
def test_gradient_of_distillation(logits, scores, temperature):
    """d/dz of T^2 KL(q || softmax(z / T)) / N is T (softmax(z / T) - q) / N."""
    z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    soft = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0).expand(len(logits), -1)
    loss = distillation(z, soft, temperature)
    loss.backward()
    expected = temperature * (torch.softmax(z.detach() / temperature, 1) - soft) / len(logits)
    assert z.grad is not None and torch.allclose(z.grad, expected, atol=1e-12)
    assert loss.item() >= -1e-12


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, [16 / 17, 1 / 17]), (2.0, [0.8, 0.2]), (4.0, [2 / 3, 1 / 3])]
)
def test_soften_takes_roots_of_odds(temperature, expected):
    scores = torch.tensor([[math.log(16 / 17), math.log(1 / 17)]])
    assert soften(scores, temperature)[0].tolist() == pytest.approx(expected)


def test_soften_ignores_the_normalisation_of_scores():
    scores = torch.tensor([[1.0, -2.0, 0.5]])
    assert torch.allclose(soften(scores, 3.0), soften(scores - 7.0, 3.0))


def test_hard_and_soft_losses_are_weighted_to_one():
    logits = torch.tensor([[0.0, 2 * LN3]])
    hard, soft = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    # Cross-entropy: odds of 1 to 9, ln 10. Distillation at T = 2: 2 ln(4/3).
    expected = 0.75 * math.log(10) + 0.25 * 2 * math.log(4 / 3)
    assert classifier_loss(logits, hard, soft, 0.25, 2.0).item() == pytest.approx(expected)


def test_soft_weight_zero_ignores_the_teacher_and_one_ignores_the_labels():
    logits = torch.tensor([[0.0, 2 * LN3]])
    hard, soft = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    assert classifier_loss(logits, hard, soft, 0.0, 2.0).item() == pytest.approx(math.log(10))
    assert classifier_loss(logits, hard, soft, 1.0, 2.0).item() == pytest.approx(2 * math.log(4 / 3))


@pytest.mark.parametrize("with_soft", [False, True])
def test_a_classifier_without_classes_costs_nothing(with_soft):
    logits = torch.zeros(3, 0, requires_grad=True)
    loss = classifier_loss(logits, torch.zeros(3, 0), torch.zeros(3, 0) if with_soft else None, 0.5, 2.0)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and logits.grad.shape == (3, 0)
