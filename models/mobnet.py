"""Mobnet of Hu et al. 2020 (DCASE 2020 task 1b); the paper's student is one with fewer filters (PAPER 2.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import ConvNorm, InvertedResidual, initialise, input_norm
from models.heads import Logits, TwoClassifiers
from models.scene_model import SceneModel
from models.specs import MobnetSpec


class Branch(nn.Module):
    """One frequency branch: stem, rows of inverted residuals, tail."""

    def __init__(self, spec: MobnetSpec, channels: int) -> None:
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


class Mobnet(SceneModel):
    """(batch, channel, mel, frame) -> scene logits, group logits."""

    def __init__(self, spec: MobnetSpec, *, channels: int, scenes: int, groups: int) -> None:
        super().__init__()
        self.input = input_norm(spec.residual_norm)
        self.branches = nn.ModuleList(Branch(spec, channels) for _ in range(spec.branches))
        self.norm: nn.Module = nn.BatchNorm2d(spec.tail, affine=False)
        self.shared = ConvNorm(spec.tail, spec.shared, bias=False, affine=False, dropout=spec.dropout)
        self.classifiers = TwoClassifiers(spec.shared, scenes, groups, spec.pooling)
        initialise(self)

    def forward(self, x: Tensor) -> Logits:
        return self.classifiers(self.shared(F.relu(self.norm(self.joined(self.input(x))))))

    def joined(self, x: Tensor) -> Tensor:
        """All branches' maps, each of its slice of the mel bins; a single one is not cut, which would be exported."""
        if len(self.branches) == 1:
            return self.branches[0](x)
        slices = x.chunk(len(self.branches), dim=2)
        return torch.cat([branch(part) for branch, part in zip(self.branches, slices, strict=True)], dim=2)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold every BatchNorm into a convolution, in place and exactly; sets eval mode.

        The norm before the head stands between two ReLUs. Its mean is of values that were never negative, so
        relu(relu(x) - mean) = relu(x - mean): the mean moves into the bias before the first ReLU, and the
        positive scale passes the second ReLU into the weights after it.
        """
        super().fold()
        norm = self.norm
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        assert norm.running_mean.min() >= 0, "not the statistics of a ReLU's output"
        for branch in self.branches:
            assert isinstance(branch, Branch) and branch.tail.conv.bias is not None
            branch.tail.conv.bias -= norm.running_mean
        self.shared.conv.weight *= (norm.running_var + norm.eps).rsqrt()[:, None, None]
        self.norm = nn.Identity()
