"""The student: the Mobnet of Hu et al. 2020 (DCASE 2020 task 1b) with fewer filters (PAPER 2.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import ConvNorm, InvertedResidual, initialise, input_norm
from models.heads import Logits, TwoClassifiers
from models.specs import StudentSpec


class BeyondFp16(OverflowError):
    """A weight has no finite value in fp16, so that the model cannot be exported."""


class Branch(nn.Module):
    """One frequency branch: stem, rows of inverted residuals, tail."""

    def __init__(self, spec: StudentSpec, channels: int) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, spec.stem, 3, stride=2, bias=True)
        blocks: list[nn.Module] = []
        width = spec.stem
        for filters in spec.rows:
            for index in range(spec.blocks_per_row):
                stride = 2 if index == 0 else 1
                blocks.append(InvertedResidual(width, filters, stride=stride, expansion=spec.expansion))
                width = filters
        self.blocks = nn.Sequential(*blocks)
        self.tail = ConvNorm(width, spec.tail, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.tail(self.blocks(F.relu(self.stem(x)))))


class Student(nn.Module):
    """(batch, channel, mel, frame) -> scene logits, group logits."""

    def __init__(self, spec: StudentSpec, *, channels: int, scenes: int, groups: int) -> None:
        super().__init__()
        self.input = input_norm(spec.residual_norm)
        self.branches = nn.ModuleList(Branch(spec, channels) for _ in range(spec.branches))
        self.norm: nn.Module = nn.BatchNorm2d(spec.tail, affine=False)
        self.shared = ConvNorm(spec.tail, spec.shared, bias=False, affine=False, dropout=spec.dropout)
        self.classifiers = TwoClassifiers(spec.shared, scenes, groups, spec.pooling)
        initialise(self)

    def forward(self, x: Tensor) -> Logits:
        slices = self.input(x).chunk(len(self.branches), dim=2)
        joined = torch.cat([branch(part) for branch, part in zip(self.branches, slices, strict=True)], dim=2)
        return self.classifiers(self.shared(F.relu(self.norm(joined))))

    @torch.no_grad()
    def quantise(self) -> None:
        """Fold, then round every weight to the nearest fp16 (PAPER 2.6), in place; arithmetic stays float32.

        What is exported afterwards stores these values exactly, so a file that differs is a wrong file, not a
        rounded one. Raises BeyondFp16.
        """
        self.fold()
        for name, parameter in self.named_parameters():
            parameter.copy_(to_fp16(name, parameter))

    @torch.no_grad()
    def merge_groups(self, group_of_scene: Sequence[int]) -> None:
        """Put the group classifier into the folded scene classifier, in place; scenes then are the combined decision.

        The product of two softmaxes, renormalised, is the softmax of summed logits (models/heads.py: combine); pooling
        and 1x1 convolution are linear, so the sum is one convolution of summed weights. Those are rounded to fp16.
        Raises BeyondFp16.
        """
        group = self.classifiers.group
        assert group is not None and not self.training and isinstance(group.norm, nn.Identity), "fold first"
        own, other = self.classifiers.scene.conv, group.conv
        index = torch.tensor(group_of_scene)
        assert own.bias is not None and other.bias is not None
        own.weight.copy_(to_fp16("classifiers.scene.conv.weight", own.weight + other.weight[index]))
        own.bias.copy_(to_fp16("classifiers.scene.conv.bias", own.bias + other.bias[index]))
        self.classifiers.group = None

    @torch.no_grad()
    def fold(self) -> None:
        """Fold every BatchNorm into a convolution, in place and exactly; sets eval mode. For counting and export.

        The norm before the head stands between two ReLUs. Its mean is of values that were never negative, so
        relu(relu(x) - mean) = relu(x - mean): the mean moves into the bias before the first ReLU, and the
        positive scale passes the second ReLU into the weights after it.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        norm = self.norm
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        assert norm.running_mean.min() >= 0, "not the statistics of a ReLU's output"
        for branch in self.branches:
            assert isinstance(branch, Branch) and branch.tail.conv.bias is not None
            branch.tail.conv.bias -= norm.running_mean
        self.shared.conv.weight *= (norm.running_var + norm.eps).rsqrt()[:, None, None]
        self.norm = nn.Identity()


def to_fp16(name: str, values: Tensor) -> Tensor:
    """The nearest fp16 values of the weight `name`. Raises BeyondFp16."""
    rounded = values.half()
    if not rounded.isfinite().all():
        largest = values.abs().max()
        raise BeyondFp16(f"{name} holds {largest:g}, fp16 ends at 65504; lower learning_rate or raise weight_decay")
    return rounded
