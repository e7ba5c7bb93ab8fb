"""Two-path pre-activation ResNet of McDonnell & Gao 2019, with two classifiers: the paper's teacher (PAPER 2.3)."""

import torch
from torch import Tensor, nn

from models.attention import attention
from models.blocks import PreActBlock, PreActConv, initialise, input_norm
from models.heads import Logits, TwoClassifiers
from models.scene_model import SceneModel
from models.specs import TwoPathSpec


class FrequencyPath(nn.Sequential):
    """One frequency path. Time is halved by the first layer and by every stack but the first; frequency never."""

    def __init__(self, spec: TwoPathSpec, channels: int) -> None:
        layers: list[nn.Module] = [
            PreActConv(channels, spec.width, stride=(1, 2), affine=True, relu=False),
        ]
        width = spec.width
        for stack in range(spec.stacks):
            filters = spec.width * 2**stack
            for index in range(spec.blocks_per_stack):
                stride = (1, 2) if stack and index == 0 else (1, 1)
                layers.append(PreActBlock(width, filters, stride=stride))
                width = filters
            if spec.attention_at == "stacks":
                layers += attention(spec.attention, width)
        super().__init__(*layers)
        self.outputs = width


class TwoPath(SceneModel):
    """(batch, channel, mel, frame) -> scene logits, group logits."""

    def __init__(self, spec: TwoPathSpec, *, channels: int, scenes: int, groups: int) -> None:
        super().__init__()
        paths = [FrequencyPath(spec, channels) for _ in range(spec.paths)]
        width = paths[0].outputs
        self.input = input_norm(spec.residual_norm)
        self.paths = nn.ModuleList(paths)
        self.fuse = PreActConv(width, 4 * width, 1)
        self.norm = nn.BatchNorm2d(4 * width, affine=False)
        self.attention = nn.Sequential(*(attention(spec.attention, 4 * width) if spec.attention_at == "head" else ()))
        self.classifiers = TwoClassifiers(4 * width, scenes, groups, spec.pooling)
        initialise(self)

    def forward(self, x: Tensor) -> Logits:
        slices = self.input(x).chunk(len(self.paths), dim=2)
        joined = torch.cat([path(part) for path, part in zip(self.paths, slices, strict=True)], dim=2)
        return self.classifiers(self.attention(self.norm(self.fuse(joined))))
