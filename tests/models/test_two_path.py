"""The teacher: golden counts, and a frequency axis that is never downsampled."""

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.blocks import PreActBlock
from models.two_path import FrequencyPath, TwoPath, TwoPathSpec

SMALL = TwoPathSpec(width=3)


def teacher(spec: TwoPathSpec = SMALL, channels: int = 3, scenes: int = 10, groups: int = 0) -> TwoPath:
    torch.manual_seed(0)
    return TwoPath(spec, channels=channels, scenes=scenes, groups=groups)


@pytest.mark.parametrize(
    ("width", "channels", "expected"), [(24, 3, 3_253_148), (24, 6, 3_254_468), (48, 3, 12_980_492)]
)
def test_golden_parameter_counts(width, channels, expected):
    with torch.device("meta"):
        model = teacher(TwoPathSpec(width=width), channels)
    state = model.state_dict()
    assert sum(value.numel() for name, value in state.items() if "num_batches" not in name) == expected
    if (width, channels) == (24, 3):
        assert sum(value.numel() for value in model.parameters()) == 3_246_108


def test_only_the_first_norm_of_a_path_has_scale_and_shift():
    norms = {name: module for name, module in teacher().named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert [name for name, norm in norms.items() if norm.affine] == ["paths.0.0.norm", "paths.1.0.norm"]
    assert all(module.bias is None for module in teacher().modules() if isinstance(module, nn.Conv2d))


def test_a_path_and_the_fusion_have_18_convolutions():
    path = cast(FrequencyPath, teacher().paths[0])
    assert sum(isinstance(module, nn.Conv2d) for module in path.modules()) + 1 == 18


def joined_maps(model: TwoPath, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.fuse.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def test_time_is_divided_by_sixteen_and_frequency_by_one():
    model = teacher().eval()
    assert joined_maps(model, torch.rand(2, 3, 128, 64)).shape == (2, 8 * 3, 128, 4)
    path = cast(FrequencyPath, model.paths[0])
    x = torch.rand(1, 3, 64, 48)
    shapes = []
    for layer in path:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    stacks = [(3, 64, 24)] * 2 + [(6, 64, 12)] * 2 + [(12, 64, 6)] * 2 + [(24, 64, 3)] * 2
    assert shapes == [(3, 64, 24), *stacks]


def test_fusion_has_32_times_the_first_width():
    model = teacher(groups=3)
    assert model.fuse.conv.weight.shape == (32 * 3, 8 * 3, 1, 1)
    scene, group = model(torch.rand(2, 3, 32, 32))
    assert scene.shape == (2, 10) and group.shape == (2, 3)


def test_the_paths_share_no_weight_and_never_see_each_others_bins():
    model = teacher().eval()
    low, high = model.paths
    assert not {id(value) for value in low.parameters()} & {id(value) for value in high.parameters()}
    x = torch.rand(2, 3, 32, 32)
    joined = joined_maps(model, x)
    with torch.no_grad():
        assert torch.equal(joined, torch.cat([low(x[:, :, :16]), high(x[:, :, 16:])], dim=2))
    louder = x.clone()
    louder[:, :, :16] += 1
    changed = (joined_maps(model, louder) != joined).any(dim=(0, 1, 3))
    assert changed[:16].all() and not changed[16:].any()


def test_the_first_layer_has_no_relu():
    first = cast(FrequencyPath, teacher().eval().paths[0])[0]
    x = torch.randn(1, 3, 8, 8)
    assert torch.allclose(first(-x), -first(x), atol=1e-6)


def test_a_block_of_one_shape_is_identity_plus_its_convolutions():
    torch.manual_seed(0)
    block = PreActBlock(3, 3).eval()
    x = torch.randn(2, 3, 6, 8)
    with torch.no_grad():
        assert torch.equal(block(x), x + block.second(block.first(x)))
        nn.init.zeros_(block.second.conv.weight)
        assert torch.equal(block(x), x)


def test_units_are_pre_activations():
    """Norm, ReLU, convolution, in this order: what lies below the running mean contributes nothing."""
    block = PreActBlock(2, 2).eval()
    mean = block.first.norm.running_mean
    assert mean is not None
    mean.fill_(5.0)
    x = 4 * torch.rand(1, 2, 4, 4)
    assert not block.first(x).any()
    assert torch.equal(block(x), x)
    assert block.first(x + 5).any()


def shortcut(x: Tensor) -> Tensor:
    block = PreActBlock(2, 4, stride=(1, 2)).eval()
    nn.init.zeros_(block.second.conv.weight)
    with torch.no_grad():
        return block(x)


def test_where_a_stack_begins_the_shortcut_is_a_3x3_average_and_zero_channels():
    x = torch.randn(2, 2, 6, 8, dtype=torch.float32)
    y = shortcut(x)
    assert y.shape == (2, 4, 6, 4)
    assert not y[:, 2:].any()
    inner = np.array(
        [[[[x[b, c, m - 1 : m + 2, 2 * t - 1 : 2 * t + 2].mean().item() for t in (1, 2, 3)] for m in range(1, 5)]
          for c in range(2)] for b in range(2)]
    )  # fmt: skip
    assert np.allclose(y[:, :2, 1:5, 1:].numpy(), inner, atol=1e-6)


def test_the_shortcut_does_not_fade_at_the_edges():
    assert torch.allclose(shortcut(torch.ones(1, 2, 6, 8))[:, :2], torch.ones(1, 2, 6, 4))


@pytest.mark.parametrize("change", [{"width": 0}, {"stacks": 0}, {"blocks_per_stack": 0}, {"paths": 0}])
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError, match="from 1 to 10,000"):
        TwoPathSpec(**change)
