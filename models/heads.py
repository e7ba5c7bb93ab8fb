"""The two classifiers of a scene model and the rule that combines them."""

import torch
from torch import Tensor, nn

from models.blocks import ConvNorm
from models.specs import Pooling

Logits = tuple[Tensor, Tensor]


class TwoClassifiers(nn.Module):
    """Scene and group classifiers on one shared map (PAPER 2.2; layers as in Hu et al. 2020).

    Each is a 1x1 convolution to its classes, a BatchNorm without scale and shift, and global average
    pooling. `groups` may be 0: then there is no group classifier and its logits have width 0.
    """

    def __init__(self, inputs: int, scenes: int, groups: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        self.scene = ConvNorm(inputs, scenes, bias=False, affine=False)
        self.group = ConvNorm(inputs, groups, bias=False, affine=False) if groups else None

    def forward(self, x: Tensor) -> Logits:
        """(batch, inputs, mel, frame) -> scene logits (batch, scenes), group logits (batch, groups)."""
        if self.pooling == "mean_max":
            x = with_loudest(x)
        scene = self.scene(x).mean((2, 3))
        group = self.group(x).mean((2, 3)) if self.group is not None else scene[:, :0]
        return scene, group


def with_loudest(x: Tensor) -> Tensor:
    """Add to each channel its largest value over time, of the mean over mel: a short event counts beside the rest.

    The mean over the map is then the mean plus the maximum, the pooling of PANNs (Kong et al. 2020, section IV-A).
    It is added before the linear layers and not after, so that their BatchNorm sees every place of the map instead of
    one value a clip, of which a small batch has too few. x is (batch, channel, mel, frame).
    """
    return x + x.mean(2, keepdim=True).amax(3, keepdim=True)


def combine(scene: Tensor, group: Tensor, group_of_scene: Tensor) -> Tensor:
    """Combined decision (PAPER system 3): each scene's probability times its group's, renormalised.

    Args:
        scene: probabilities (clip, scene).
        group: probabilities (clip, group).
        group_of_scene: int64 (scene,), the index of each scene's group.
    Returns: probabilities (clip, scene).
    """
    joint = scene * group[:, group_of_scene]
    return joint / joint.sum(1, keepdim=True).clamp_min(torch.finfo(joint.dtype).tiny)
