"""What every model family offers: two classifiers, and the way to an exported file."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.blocks import ConvNorm
from models.heads import Logits, TwoClassifiers


class Overflow(ArithmeticError):
    """A weight is too large for fp16."""


class SceneModel(nn.Module):
    """(batch, channel, mel, frame) -> scene logits (batch, scene), group logits (batch, group).

    A family is a subclass with the constructor `(settings, *, channels, scenes, groups)`.
    """

    classifiers: TwoClassifiers

    def forward(self, x: Tensor) -> Logits:
        raise NotImplementedError

    @torch.no_grad()
    def fold(self) -> None:
        """Fold each BatchNorm that follows a convolution into it, in place and exactly; sets eval mode.

        For counting and for export. A family with other norms that can be folded extends this.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()

    @torch.no_grad()
    def quantise(self) -> None:
        """Fold, then round every weight to the nearest fp16 (PAPER 2.6), in place; arithmetic stays float32.

        What is exported afterwards stores these values exactly, so a file that differs is a wrong file, not a
        rounded one. Raises Overflow where a weight is beyond fp16.
        """
        self.fold()
        for name, value in self.state_dict().items():
            if value.is_floating_point():
                largest = value.abs().max().item()
                value.copy_(value.half())
                if not value.isfinite().all():
                    raise Overflow(f"{name} has a weight of {largest:g}, which is beyond fp16")

    @torch.no_grad()
    def merge_groups(self, group_of_scene: Sequence[int]) -> None:
        """Put the group classifier into the folded scene classifier, in place; scenes then are the combined decision.

        The product of two softmaxes, renormalised, is the softmax of summed logits (models/heads.py: combine); pooling
        and 1x1 convolution are linear, so the sum is one convolution of summed weights. Those are rounded to fp16.
        """
        group = self.classifiers.group
        assert group is not None and not self.training and isinstance(group.norm, nn.Identity), "fold first"
        own, other = self.classifiers.scene.conv, group.conv
        index = torch.tensor(group_of_scene)
        assert own.bias is not None and other.bias is not None
        own.weight.copy_((own.weight + other.weight[index]).half())
        own.bias.copy_((own.bias + other.bias[index]).half())
        self.classifiers.group = None
