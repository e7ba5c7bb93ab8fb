"""A loss of one's own: the scene classifier alone, its labels smoothed."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.heads import Logits
from models.losses import Targets
from models.recipe import Recipe
from models.table import Settings


@dataclass(frozen=True)
class SmoothedSettings(Settings):
    name: str = "stillhouse_tiny.loss:Smoothed"
    share: float = 0.1  # of the target that all classes have alike


class Smoothed:
    Settings = SmoothedSettings

    def __init__(self, settings: SmoothedSettings, recipe: Recipe) -> None:
        self.share = settings.share

    def __call__(self, logits: Logits, targets: Targets) -> Tensor:
        return F.cross_entropy(logits[0], targets.scene, label_smoothing=self.share)
