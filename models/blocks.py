"""Building blocks shared by student and teacher. Feature maps are (batch, channel, mel, frame) throughout."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_FLOOR = 1e-5  # of a variance


class ConvNorm(nn.Module):
    """Convolution, then BatchNorm, with an optional dropout between them.

    Convolution and norm are one module because at inference they are one affine map:
    `fold` turns them into a single convolution, which is what the exported file stores.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool,
        affine: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.norm: nn.Module = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.dropout(self.conv(x)))

    def fold(self) -> None:
        """Fold the norm into the convolution, in place. The module must be in eval mode."""
        assert isinstance(self.norm, nn.BatchNorm2d) and not self.training
        self.conv = nn.utils.fuse_conv_bn_eval(self.conv, self.norm)
        self.norm = nn.Identity()


class InvertedResidual(nn.Module):
    """MobileNetV2 block (Sandler et al. 2018) with plain ReLU: expand, depthwise, linear projection.

    The skip exists where stride is 1 and the width does not change; nothing follows the addition.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvNorm(inputs, inner, bias=True)
        self.depthwise = ConvNorm(inner, inner, 3, stride=stride, groups=inner, bias=True)
        self.project = ConvNorm(inner, outputs, bias=True)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.expand(x))
        y = F.relu(self.depthwise(y))
        y = self.project(y)
        return x + y if self.skip else y


class ResidualNorm(nn.Module):
    """weight * x + x normalised by frequency (residual normalisation of Kim et al. 2021, at the input).

    Each clip's every mel bin gets mean 0 and variance 1 over time, channel by channel, which takes a device's response
    out; the residual keeps some of the level's information. With weight 0 it is frequency-wise instance normalisation.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(3, keepdim=True)
        centred = x - mean
        normed = centred * torch.rsqrt(centred.square().mean(3, keepdim=True) + NORM_FLOOR)
        return self.weight * x + normed


class PreActConv(nn.Module):
    """BatchNorm, ReLU, convolution without bias: the unit of the pre-activation ResNet (He et al. 2016)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: tuple[int, int] = (1, 1),
        affine: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, affine=affine)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.relu(self.norm(x)))


class PreActBlock(nn.Module):
    """Two 3x3 pre-activation units around a parameter-free shortcut.

    Where the block changes shape, the shortcut is a 3x3 average pool of the block's stride, which leaves its
    padding out of the mean as Keras does, and the new channels are zeros (McDonnell & Gao 2019). `F.pad` makes
    them: concatenating zeros would bake a constant as large as the activation into an exported file.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.first = PreActConv(inputs, outputs, stride=stride)
        self.second = PreActConv(outputs, outputs)
        self.stride = stride
        self.extra = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(clip, channel, mel, frame) -> (clip, width, mel / stride, frame / stride)."""
        y = self.second(self.first(x))
        if self.stride != (1, 1):
            x = F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False)
        if self.extra:
            x = F.pad(x, (0, 0, 0, 0, 0, self.extra))
        return x + y


def input_norm(weight: float | None) -> nn.Module:
    """The setting `residual_norm` of a model's spec."""
    return nn.Identity() if weight is None else ResidualNorm(weight)


def initialise(model: nn.Module) -> None:
    """One table of initial values: He normal for convolutions, zero biases, unit norms.

    Draws from torch's global generator, so seed it first.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
