"""What a model costs: parameters, bytes by the challenge's rule, multiply-accumulates."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BYTES_PER_PARAMETER = 2  # fp16
LARGEST = 64_000 * BYTES_PER_PARAMETER
"""Satisfies both readings of the challenge's 128 KB: 128,000 bytes and 128 KiB (DCASE 2021 task 1a)."""


@dataclass(frozen=True)
class Complexity:
    parameters: int  # everything stored: weights, biases, BatchNorm statistics
    non_zero: int
    bytes: int  # non-zero parameters in fp16, the challenge's rule
    macs: int  # of one clip


def stored_parameters(model: nn.Module) -> list[torch.Tensor]:
    """Parameters and BatchNorm statistics, without its counters: what Keras counts and a file holds."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]


def measure(model: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Measure `model` as it is (fold it first to count what is exported) on one (channel, mel, frame) input.

    A value counts as non-zero if it is so in fp16.
    """
    values = stored_parameters(model)
    non_zero = sum(int(value.half().count_nonzero()) for value in values)
    training = model.training
    device = values[0].device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *input_shape, device=device))
    model.train(training)
    return Complexity(
        parameters=sum(value.numel() for value in values),
        non_zero=non_zero,
        bytes=non_zero * BYTES_PER_PARAMETER,
        macs=counter.get_total_flops() // 2,
    )
