"""What a model costs, counted by hand and by the published figures."""

import math

import pytest
import torch
from torch import nn

from models.complexity import Complexity, measure
from models.mobnet import Mobnet, MobnetSpec
from models.specs import BYTES_PER_PARAMETER, LARGEST

HU = MobnetSpec(stem=32, rows=(32, 40, 48), tail=56, shared=48)


def fill(model: nn.Module, value: float) -> nn.Module:
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def test_a_convolution_and_its_norm_counted_by_hand():
    model = fill(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)), 0.5)
    # 4 x 3 x 3 x 3 weights, 4 biases; scale, shift, mean (zeros) and variance of 4 channels; 8 x 10 places
    # The norm reads 4 x 80 values and writes as many; the convolution reads 3 x 80.
    parameters = 108 + 4 + 16
    assert measure(model, (3, 8, 10)) == Complexity(
        parameters=parameters, non_zero=parameters - 4, bytes=2 * (parameters - 4), macs=80 * 108, peak_activations=640
    )


def test_a_strided_depthwise_convolution_counted_by_hand():
    cost = measure(fill(nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6, bias=False), 1.0), (6, 8, 10))
    assert cost == Complexity(parameters=54, non_zero=54, bytes=108, macs=4 * 5 * 6 * 9, peak_activations=480 + 120)


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (0.0, False),
        (-0.0, False),
        (1e-9, False),  # underflows in fp16
        (2.0**-25, False),  # half of the least fp16 number: rounds to even, to zero
        (2.0**-24, True),  # the least fp16 number
        (-6e-8, True),
        (1e6, True),  # overflows, but is not zero
    ],
)
def test_a_value_counts_if_fp16_can_tell_it_from_zero(value, counts):
    model = nn.Conv2d(1, 1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[[[1.0, value], [2.0, -3.0]]]]))
    cost = measure(model, (1, 4, 4))
    assert cost.parameters == 4
    assert cost.non_zero == 3 + counts
    assert cost.bytes == 2 * (3 + counts)


def test_published_widths_take_105_million_macs():
    cost = measure(Mobnet(HU, channels=3, scenes=10, groups=3), (3, 128, 400))
    assert cost.parameters == 77_578
    assert cost.macs == pytest.approx(105e6, rel=0.01)


def test_macs_are_those_of_the_convolutions():
    """An independent count: every output element takes one multiplication per weight that reaches it."""
    model = Mobnet(MobnetSpec(branches=2), channels=3, scenes=10, groups=3)
    counts: list[int] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counts.append(output.numel() * math.prod(module.weight.shape[1:]))

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.Conv2d)]
    model(torch.zeros(2, 3, 128, 64))
    for hook in hooks:
        hook.remove()
    assert measure(model, (3, 128, 64)).macs == sum(counts) / 2


def test_folding_leaves_the_macs_and_takes_the_statistics():
    model = Mobnet(MobnetSpec(), channels=3, scenes=10, groups=3)
    before = measure(model, (3, 128, 64))
    model.fold()
    after = measure(model, (3, 128, 64))
    assert (before.parameters, after.parameters) == (65_998, 59_121)
    assert before.macs == after.macs
    assert after.bytes <= after.parameters * BYTES_PER_PARAMETER <= 116 * 1024


def test_the_limit_satisfies_both_readings_of_128_kb():
    assert LARGEST == 2 * 64_000
    assert LARGEST <= 128_000 < 128 * 1024


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_the_model_as_it_was(training):
    model = Mobnet(MobnetSpec(stem=4, rows=(4,), tail=4, shared=4), channels=3, scenes=3, groups=2).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, (3, 16, 16))
    assert model.training is training and model.shared.dropout.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_student_s_peak_is_where_the_first_block_expands():
    """Of (3, 64, 208): the stem leaves 32 x 32 x 104 values, which the first block reads as it writes twice as many."""
    student = Mobnet(MobnetSpec(), channels=3, scenes=10, groups=3)
    student.fold()
    assert measure(student, (3, 64, 208)).peak_activations == 3 * 32 * 32 * 104


def test_what_a_skip_connection_needs_is_alive():
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widen, self.narrow = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.narrow(torch.relu(self.widen(x)))

    # Input 2 x 12, widened 8 x 12, narrowed 2 x 12: all at once, because the input is added in the end.
    assert measure(Skip(), (2, 3, 4)).peak_activations == 24 + 96 + 24
