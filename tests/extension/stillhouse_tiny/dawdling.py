"""A loss that takes its time, another time at every call, and is otherwise the usual one."""

import random
import time
from dataclasses import dataclass

from torch import Tensor

from models.heads import Logits
from models.losses import Kl, Targets
from models.recipe import KlSettings, Recipe


@dataclass(frozen=True)
class DawdlingSettings(KlSettings):
    name: str = "stillhouse_tiny.dawdling:Dawdling"
    longest: float = 0.01  # seconds of sleep at a batch


class Dawdling(Kl):
    Settings = DawdlingSettings

    def __init__(self, settings: DawdlingSettings, recipe: Recipe) -> None:
        super().__init__(settings, recipe)
        # Of each training its own pace, so that trials overtake each other; no seed, so that every run has another.
        self.longest = settings.longest * random.SystemRandom().choice((0.1, 1, 4))

    def __call__(self, logits: Logits, targets: Targets) -> Tensor:
        time.sleep(random.SystemRandom().uniform(0, self.longest))
        return super().__call__(logits, targets)
