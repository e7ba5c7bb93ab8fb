"""The student: golden counts, shapes, and folding that changes nothing."""

import copy
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.blocks import InvertedResidual
from models.heads import combine
from models.mobnet import Branch, Mobnet, MobnetSpec
from models.scene_model import BeyondFp16, to_fp16

HU = MobnetSpec(stem=32, rows=(32, 40, 48), tail=56, shared=48)  # the published widths
TINY = MobnetSpec(stem=4, rows=(4, 6), blocks_per_row=2, tail=6, shared=5)


def stored(model: nn.Module) -> int:
    """Weights and BatchNorm statistics, without its step counters."""
    return sum(value.numel() for name, value in model.state_dict().items() if "num_batches" not in name)


def student(spec: MobnetSpec, channels: int = 3, scenes: int = 10, groups: int = 3, seed: int = 0) -> Mobnet:
    torch.manual_seed(seed)
    return Mobnet(spec, channels=channels, scenes=scenes, groups=groups)


def randomise_norms(model: Mobnet) -> None:
    """Any statistics, scales and shifts; but the head norm's mean is of a ReLU's output, never negative."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.25, 4)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2)
                nn.init.uniform_(module.bias, -1, 1)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.uniform_(module.bias, -1, 1)
    assert isinstance(model.norm, nn.BatchNorm2d) and model.norm.running_mean is not None
    model.norm.running_mean.abs_()


@pytest.mark.parametrize(
    ("spec", "channels", "scenes", "groups", "expected"),
    [
        (replace(HU, branches=2), 6, 3, 0, 152_838),  # equal to the checkpoint published by Hu et al.
        (HU, 3, 10, 0, 77_428),
        (HU, 3, 10, 3, 77_578),
        (MobnetSpec(), 3, 10, 3, 65_998),
    ],
)
def test_golden_parameter_counts(spec, channels, scenes, groups, expected):
    assert stored(student(spec, channels, scenes, groups)) == expected


def test_the_folded_default_fits_the_papers_116_kb():
    model = student(MobnetSpec())
    model.fold()
    assert stored(model) == 59_121
    assert stored(model) <= 59_400
    assert 2 * stored(model) <= 116 * 1024
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folding_is_exact(branches, seed):
    """In float64, where a wrong formula cannot hide behind rounding."""
    model = student(replace(TINY, branches=branches), seed=seed).double()
    randomise_norms(model)
    x = torch.randn(4, 3, 32, 40, dtype=torch.float64)
    with torch.no_grad():
        before = model.eval()(x)
        model.fold()
        after = model(x)
    for one, other in zip(before, after, strict=True):
        assert one.abs().max() > 0.1
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("branches", [1, 2])
def test_folding_the_default_student_in_float32_changes_less_than_1e_5(branches):
    """With statistics observed in training, so that values have the size they have in earnest."""
    model = student(MobnetSpec(branches=branches))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    x = torch.rand(4, 3, 128, 48)
    with torch.no_grad():
        for _ in range(30):
            model.train()(x)
        before = model.eval()(x)
        model.fold()
        after = model(x)
    for one, other in zip(before, after, strict=True):
        assert one.std() > 0.05
        assert (one - other).abs().max() < 1e-5


def test_folding_ends_training():
    model = student(TINY)
    model.fold()
    x = torch.rand(2, 3, 32, 32)
    assert not model.training
    assert torch.equal(model(x)[0], model(x)[0])  # no dropout is left


def test_quantising_rounds_every_folded_weight_to_the_nearest_fp16():
    folded = student(TINY)
    randomise_norms(folded)
    quantised = copy.deepcopy(folded)
    folded.fold()
    quantised.quantise()
    rounded = {name: value.numpy().astype(np.float16) for name, value in folded.state_dict().items()}
    state = quantised.state_dict()
    assert state.keys() == rounded.keys()
    for name, value in state.items():
        assert value.dtype == torch.float32
        assert np.array_equal(value.numpy(), rounded[name].astype(np.float32)), name
    assert any(not torch.equal(value, folded.state_dict()[name]) for name, value in state.items())


def test_temperatures_divide_the_logits_and_cost_no_weight():
    plain = student(TINY)
    randomise_norms(plain)
    calibrated = copy.deepcopy(plain)
    plain.fold()
    calibrated.quantise((0.5, 4.0))
    x = torch.rand(2, 3, 32, 32)
    (scene, group), (sharper, softer) = plain(x), calibrated(x)
    torch.testing.assert_close(sharper, scene / 0.5, atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(softer, group / 4.0, atol=5e-3, rtol=5e-3)
    assert calibrated.state_dict().keys() == plain.state_dict().keys()


def test_a_weight_beyond_fp16_is_refused():
    model = student(TINY)
    nn.init.constant_(model.classifiers.scene.conv.weight, 1e6)
    with pytest.raises(BeyondFp16, match=r"^classifiers\.scene\.conv\.weight holds 99999\d, fp16 ends at 65504; lower"):
        model.quantise()
    assert issubclass(BeyondFp16, ArithmeticError)


@pytest.mark.parametrize(("value", "told"), [(1e6, "1e+06"), (-65520.0, "65520"), (math.nan, "nan")])
def test_what_has_no_fp16_is_told_with_its_name(value, told):
    with pytest.raises(BeyondFp16) as refusal:
        to_fp16("stem", torch.tensor([1.0, value]))
    assert str(refusal.value) == f"stem holds {told}, fp16 ends at 65504; lower learning_rate or raise weight_decay"
    assert to_fp16("stem", torch.tensor([65519.0, -65519.0])).tolist() == [65504, -65504]  # the nearest there is


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_merged_groups_beyond_fp16_are_refused(kind):
    model = student(TINY)
    model.quantise()
    assert model.classifiers.group is not None
    for classifier in (model.classifiers.scene, model.classifiers.group):
        nn.init.constant_(getattr(classifier.conv, kind), 40_000.0)
    with pytest.raises(BeyondFp16, match=rf"^classifiers\.scene\.conv\.{kind} holds 80000, fp16 ends at 65504"):
        model.merge_groups([0] * 10)


def maps_before_the_head(model: Mobnet, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def test_stem_and_rows_halve_mel_and_frame():
    model = student(MobnetSpec()).eval()
    joined = maps_before_the_head(model, torch.rand(2, 3, 128, 400))
    assert joined.shape == (2, 56, 128 // 16, 400 // 16)
    scene, group = model(torch.rand(2, 3, 128, 423))
    assert scene.shape == (2, 10) and group.shape == (2, 3)


def test_branches_have_weights_of_their_own_and_join_along_frequency():
    model = student(replace(TINY, branches=2)).eval()
    first, second = (cast(Branch, branch) for branch in model.branches)
    assert not {id(value) for value in first.parameters()} & {id(value) for value in second.parameters()}
    assert not torch.equal(first.stem.conv.weight, second.stem.conv.weight)
    x = torch.rand(2, 3, 64, 32)
    joined = maps_before_the_head(model, x)
    with torch.no_grad():
        expected = torch.cat([first(x[:, :, :32]), second(x[:, :, 32:])], dim=2)
    assert joined.shape == (2, 6, 2 * 32 // 8, 32 // 8)
    assert torch.equal(joined, expected)


def test_a_clips_prediction_does_not_depend_on_its_neighbours():
    model = student(TINY).double()
    randomise_norms(model)
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        together = model.eval()(x)[0]
        alone = torch.cat([model(clip[None])[0] for clip in x])
    assert torch.allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize(("stride", "outputs", "skip"), [(1, 6, True), (1, 7, False), (2, 6, False)])
def test_a_block_whose_projection_says_nothing_is_its_skip(stride, outputs, skip):
    block = InvertedResidual(6, outputs, stride=stride, expansion=2).eval()
    assert isinstance(block.project.norm, nn.BatchNorm2d)
    nn.init.zeros_(block.project.norm.weight)
    x = torch.randn(2, 6, 8, 8)
    y = block(x)
    assert y.shape == (2, outputs, 8 // stride, 8 // stride)
    assert torch.equal(y, x if skip else torch.zeros_like(y))


def test_the_projection_is_linear():
    """No ReLU before or after the addition: a block's output can be negative where its input is zero."""
    block = InvertedResidual(3, 3, stride=1, expansion=2).eval()
    norm = block.project.norm
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.bias, -5.0)
    nn.init.zeros_(norm.weight)
    assert torch.equal(block(torch.zeros(1, 3, 4, 4)), torch.full((1, 3, 4, 4), -5.0))


def test_biases_stand_in_the_body_and_not_in_the_head():
    model = student(MobnetSpec())
    with_bias = {
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.bias is not None
    }
    without = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.bias is None}
    assert without == {"shared.conv", "classifiers.scene.conv", "classifiers.group.conv"}
    assert with_bias and all(name.startswith("branches.0.") for name in with_bias)


def test_dropout_acts_in_training_on_the_shared_layer_only():
    model = student(replace(TINY, dropout=0.5))
    assert [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)] == ["shared.dropout"]
    assert not any(isinstance(module, nn.Dropout) for module in student(replace(TINY, dropout=0.0)).modules())
    x = torch.rand(4, 3, 32, 32)
    torch.manual_seed(1)
    one = model.train()(x)[0]
    assert not torch.equal(one, model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


def test_initial_values_follow_he_and_the_seed():
    model = student(MobnetSpec(), seed=4)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = math.prod(module.weight.shape[1:])
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1)
            assert module.bias is None or not module.bias.any()
    same, other = student(MobnetSpec(), seed=4), student(MobnetSpec(), seed=5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert not torch.equal(model.shared.conv.weight, other.shared.conv.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": 0}, "widths"),
        ({"rows": (32, 0, 40)}, "widths"),
        ({"expansion": 0}, "widths"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"branches": 0}, "branches"),
    ],
)
def test_impossible_widths_are_refused(change: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        MobnetSpec(**change)


@pytest.mark.parametrize("pooling", ["mean", "mean_max"])
def test_merged_groups_say_the_combined_decision(pooling):
    model = student(replace(TINY, pooling=pooling), groups=3)
    randomise_norms(model)
    model.quantise()
    x = torch.rand(5, 3, 16, 40)
    group_of_scene = [0, 2, 2, 0, 1, 1, 0, 1, 1, 2]
    with torch.no_grad():
        scene, group = (logits.softmax(1) for logits in model(x))
        expected = combine(scene, group, torch.tensor(group_of_scene))
        model.merge_groups(group_of_scene)
        merged, nothing = model(x)
    torch.testing.assert_close(merged.softmax(1), expected, atol=2e-3, rtol=0)  # summed weights are rounded
    assert nothing.shape == (5, 0)
    values = next(iter(model.classifiers.scene.conv.parameters()))
    assert torch.equal(values, values.half().float())
