"""Attention: what each kind weighs, checked on maps whose weights can be worked out by hand."""

import pytest
import torch
from torch import Tensor, nn

from models.attention import ChannelAttention, FrequencyAttention, SpatialAttention, attention
from models.specs import TwoPathSpec
from models.two_path import TwoPath


def ones(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    return module


def sigmoid(x: float) -> float:
    return float(torch.sigmoid(torch.tensor(x)))


def test_channel_attention_by_hand():
    x = torch.zeros(1, 2, 2, 2)
    x[0, 0, 0, 0], x[0, 1, 1, 1] = 4.0, -8.0
    # One inner unit adds the channels: means 1 and -2 give relu(-1) = 0, maxima 4 and 0 give relu(4) = 4.
    y = ones(ChannelAttention(2))(x)
    assert y[0, 0, 0, 0].item() == pytest.approx(4 * sigmoid(4.0))
    assert y[0, 1, 1, 1].item() == pytest.approx(-8 * sigmoid(4.0))
    assert y.count_nonzero() == 2


def test_spatial_attention_by_hand():
    x = torch.zeros(1, 2, 9, 9)
    x[0, 0, 4, 4] = 2.0
    # Mean 1 and maximum 2 at the middle, seen by every place within three rows and frames.
    y = ones(SpatialAttention())(x + 1e-3)
    assert y[0, 0, 4, 4].item() == pytest.approx(2 * sigmoid(3.0), rel=0.02)
    assert y[0, 1, 1, 1].item() == pytest.approx(1e-3 * sigmoid(3.0), rel=0.02)
    assert y[0, 1, 0, 0].item() == pytest.approx(1e-3 * sigmoid(0.0), rel=0.02)


def test_frequency_attention_is_one_weight_a_row():
    x = torch.rand(3, 4, 16, 10, generator=torch.Generator().manual_seed(0)) + 0.1
    weights = FrequencyAttention()(x) / x
    torch.testing.assert_close(weights, weights[:, :1, :, :1].expand_as(x))
    assert weights[0, 0, :, 0].unique().numel() > 1


@pytest.mark.parametrize("place", ["head", "stacks"])
@pytest.mark.parametrize("kind", ["channel", "channel_spatial", "frequency"])
def test_a_teacher_with_attention_learns_its_weights(kind, place):
    torch.manual_seed(0)
    model = TwoPath(TwoPathSpec(width=2, attention=kind, attention_at=place), channels=3, scenes=4, groups=2)
    plain = TwoPath(TwoPathSpec(width=2), channels=3, scenes=4, groups=2)
    extra = dict(model.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert extra
    scene, group = model(torch.rand(2, 3, 32, 40))
    assert scene.shape == (2, 4) and group.shape == (2, 2)
    (scene.sum() ** 2 + group.sum() ** 2).backward()
    gradients: list[Tensor | None] = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_extra_parameters_of_the_paper_s_size():
    def count(**settings) -> int:
        with torch.device("meta"):
            model = TwoPath(TwoPathSpec(**settings), channels=3, scenes=10, groups=0)
        return sum(parameter.numel() for parameter in model.parameters())

    plain, fused = count(), 32 * 24
    assert count(attention="channel") - plain == 2 * fused * (fused // 8)
    assert count(attention="channel_spatial") - plain == 2 * fused * (fused // 8) + 2 * 49
    assert count(attention="frequency") - plain == 2 * 7
    assert count(attention="frequency", attention_at="stacks") - plain == 2 * 4 * 2 * 7


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no attention 'self'"):
        attention("self", 8)
