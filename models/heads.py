"""The two classifiers of a scene model and the rule that combines them."""

import torch
from torch import Tensor, nn

from models.blocks import ConvNorm

Logits = tuple[Tensor, Tensor]


class TwoClassifiers(nn.Module):
    """Scene and group classifiers on one shared map (PAPER 2.2; layers as in Hu et al. 2020).

    Each is a 1x1 convolution to its classes, a BatchNorm without scale and shift, and global average
    pooling. `groups` may be 0: then there is no group classifier and its logits have width 0.
    """

    def __init__(self, inputs: int, scenes: int, groups: int) -> None:
        super().__init__()
        self.scene = ConvNorm(inputs, scenes, bias=False, affine=False)
        self.group = ConvNorm(inputs, groups, bias=False, affine=False) if groups else None

    def forward(self, x: Tensor) -> Logits:
        """(batch, inputs, mel, frame) -> scene logits (batch, scenes), group logits (batch, groups)."""
        scene = self.scene(x).mean((2, 3))
        group = self.group(x).mean((2, 3)) if self.group is not None else scene[:, :0]
        return scene, group


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
