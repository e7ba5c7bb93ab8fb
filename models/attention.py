"""Attention for the teacher (PAPER 2.3, teacher model 2).

The report's own reference for it (Liu 2020) is not public, so kind and place are our assumption: the nearest relative
is the channel attention of Hu et al. 2020, from CBAM (Woo et al. 2018). All maps are (batch, channel, mel, frame).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REDUCTION = 8  # of the channels, inside the shared layers
KERNEL = 7  # of the convolutions over pooled maps


class ChannelAttention(nn.Module):
    """Weighs channels: mean and maximum over the map, two shared layers, their sum through a sigmoid (CBAM 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // REDUCTION, 1)
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.expand = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        mean, most = (self.expand(F.relu(self.reduce(part))) for part in pooled)
        return x * torch.sigmoid(mean + most)


class SpatialAttention(nn.Module):
    """Weighs places of the map: mean and maximum over channels, a 7x7 convolution, a sigmoid (CBAM 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


class FrequencyAttention(nn.Module):
    """Weighs mel rows: mean and maximum over channels and frames, a convolution over rows, a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, (KERNEL, 1), padding=(KERNEL // 2, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean((1, 3), keepdim=True), x.amax((1, 3), keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


def attention(kind: str, channels: int) -> list[nn.Module]:
    """The layers of one kind of TwoPathSpec.attention, for maps of `channels`."""
    match kind:
        case "none":
            return []
        case "channel":
            return [ChannelAttention(channels)]
        case "channel_spatial":
            return [ChannelAttention(channels), SpatialAttention()]
        case "frequency":
            return [FrequencyAttention()]
    raise ValueError(f"no attention '{kind}'")
