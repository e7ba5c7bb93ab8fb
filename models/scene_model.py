"""What every model family offers: two classifiers, and the way to an exported file."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.blocks import ConvNorm
from models.heads import TwoClassifiers


class BeyondFp16(OverflowError):
    """A weight has no finite value in fp16, so that the model cannot be exported."""


def to_fp16(name: str, values: Tensor) -> Tensor:
    """The nearest fp16 values of the weight `name`. Raises BeyondFp16."""
    rounded = values.half()
    if not rounded.isfinite().all():
        largest = values.abs().max()
        raise BeyondFp16(f"{name} holds {largest:g}, fp16 ends at 65504; lower learning_rate or raise weight_decay")
    return rounded


class SceneModel(nn.Module):
    """(batch, channel, mel, frame) -> scene logits (batch, scene), group logits (batch, group).

    A family is a subclass with the constructor `(settings, *, channels, scenes, groups)`.
    """

    classifiers: TwoClassifiers

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
    def quantise(self, temperatures: tuple[float, float] = (1.0, 1.0)) -> None:
        """Fold, divide both classifiers' logits by temperatures, then round every weight to the nearest fp16, in place.

        Arithmetic stays float32 (PAPER 2.6). What is exported afterwards stores these values exactly, so a file that
        differs is a wrong file, not a rounded one. `temperatures` are of scene and group. Raises BeyondFp16.
        """
        self.fold()
        for classifier, temperature in zip((self.classifiers.scene, self.classifiers.group), temperatures, strict=True):
            if classifier is not None:
                assert classifier.conv.bias is not None  # the folded norm's
                classifier.conv.weight /= temperature
                classifier.conv.bias /= temperature
        for name, value in self.state_dict().items():
            if value.is_floating_point():
                value.copy_(to_fp16(name, value))

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
