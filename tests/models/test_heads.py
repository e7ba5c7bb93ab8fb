"""The two classifiers, and the rule that combines them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.heads import TwoClassifiers, combine

GROUPS = torch.tensor([0, 0, 1, 2, 2, 2])  # of unequal sizes on purpose


def distributions(classes: int):
    """Rows of probabilities, each at least 1e-3 of the largest."""
    weights = st.lists(st.floats(1e-3, 1.0), min_size=classes, max_size=classes)
    return st.lists(weights, min_size=2, max_size=2).map(
        lambda rows: (lambda table: table / table.sum(1, keepdim=True))(torch.tensor(rows, dtype=torch.float64))
    )


def test_combine_worked_out_by_hand():
    scene = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.2, 0.4]], dtype=torch.float64)
    group = torch.tensor([[0.4, 0.6], [0.1, 0.9]], dtype=torch.float64)
    combined = combine(scene, group, torch.tensor([0, 0, 1]))
    # 0.20 0.12 0.12 of 0.44; 0.04 0.02 0.36 of 0.42: the group turns the second decision
    expected = torch.tensor([[5 / 11, 3 / 11, 3 / 11], [2 / 21, 1 / 21, 18 / 21]], dtype=torch.float64)
    assert torch.allclose(combined, expected, atol=1e-15)
    assert combined[1].argmax() == 2


@settings(deadline=None, max_examples=50)
@given(scene=distributions(6), group=distributions(3))
def test_combined_rows_are_probabilities_and_groups_only_move_between_groups(scene: Tensor, group: Tensor):
    combined = combine(scene, group, GROUPS)
    assert (combined >= 0).all()
    assert torch.allclose(combined.sum(1), torch.ones(2, dtype=torch.float64))
    # Within a group the ratios are the scene classifier's.
    for members in ([0, 1], [3, 4, 5]):
        ours, theirs = combined[:, members], scene[:, members]
        assert torch.allclose(ours / ours.sum(1, keepdim=True), theirs / theirs.sum(1, keepdim=True))
    # Between groups the odds are multiplied by the group classifier's odds.
    assert torch.allclose(combined[:, 0] / combined[:, 2], scene[:, 0] / scene[:, 2] * group[:, 0] / group[:, 1])


@settings(deadline=None, max_examples=50)
@given(scene=distributions(6))
def test_an_undecided_group_classifier_changes_nothing(scene: Tensor):
    """Whatever the groups' sizes: a factor common to all scenes is normalised away."""
    uniform = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    assert torch.allclose(combine(scene, uniform, GROUPS), scene, atol=1e-14)


def test_a_certain_group_leaves_only_its_scenes():
    scene = torch.tensor([[0.1, 0.2, 0.4, 0.1, 0.1, 0.1]])
    combined = combine(scene, torch.tensor([[1.0, 0.0, 0.0]]), GROUPS)
    assert torch.allclose(combined, torch.tensor([[1 / 3, 2 / 3, 0, 0, 0, 0]]))


def test_classifiers_that_exclude_each_other_give_no_nan():
    combined = combine(torch.tensor([[1.0, 0, 0, 0, 0, 0]]), torch.tensor([[0.0, 1.0, 0.0]]), GROUPS)
    assert combined.isfinite().all()


@pytest.mark.parametrize("pooling", ["mean", "mean_max"])
def test_logits_are_the_normalised_1x1_convolution_of_what_is_pooled(pooling):
    torch.manual_seed(0)
    heads = TwoClassifiers(5, 4, 2, pooling).eval()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 5, 6, 7)).astype(np.float32)
    scene, group = heads(torch.from_numpy(x))
    for logits, head in ((scene, heads.scene), (group, heads.group)):
        assert head is not None
        norm = head.norm
        assert isinstance(norm, torch.nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        again = heads(torch.from_numpy(x))[0 if head is heads.scene else 1]
        weight = head.conv.weight[:, :, 0, 0].detach().numpy()
        pooled = x.mean((2, 3)) + (x.mean(2).max(2) if pooling == "mean_max" else 0)
        mapped = pooled @ weight.T
        expected = (mapped - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
        assert np.allclose(again.detach().numpy(), expected, atol=1e-5)
        assert not torch.allclose(again, logits)


def test_in_training_the_logits_of_a_batch_have_mean_zero():
    """The norm behind the convolution has neither scale nor shift."""
    torch.manual_seed(0)
    scene, group = TwoClassifiers(5, 4, 2)(torch.randn(8, 5, 3, 3))
    assert scene.shape == (8, 4) and group.shape == (8, 2)
    assert scene.mean(0).tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert group.mean(0).tolist() == pytest.approx([0] * 2, abs=1e-6)


def test_without_groups_there_is_no_group_classifier():
    heads = TwoClassifiers(5, 4, 0)
    scene, group = heads(torch.randn(2, 5, 3, 3))
    assert group.shape == (2, 0) and scene.shape == (2, 4)
    assert sum(value.numel() for value in heads.parameters()) == 5 * 4
