"""A small family: two strided convolutions, then the two classifiers that every family has."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.blocks import ConvNorm, initialise
from models.heads import Logits, TwoClassifiers
from models.scene_model import SceneModel
from models.specs import Spec


@dataclass(frozen=True)
class TinySettings(Spec):
    family: str = "stillhouse_tiny.family:Tiny"
    width: int = 8  # filters of both convolutions

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")


class Tiny(SceneModel):
    Settings = TinySettings

    def __init__(self, settings: TinySettings, *, channels: int, scenes: int, groups: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, settings.width, 3, stride=2, bias=True)
        self.second = ConvNorm(settings.width, settings.width, 3, stride=2, bias=True)
        self.classifiers = TwoClassifiers(settings.width, scenes, groups)
        initialise(self)

    def forward(self, x: Tensor) -> Logits:
        return self.classifiers(F.relu(self.second(F.relu(self.first(x)))))
