"""The settings of one training."""

import math
from dataclasses import dataclass
from typing import ClassVar

from models.schedule import DOUBLING


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Defaults are the paper's (2.4, 2.5); temperature and soft weight it leaves open."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    cycle_ends: tuple[int, ...] = DOUBLING  # epochs; an epoch is one pass over the training clips
    batch_size: int = 32
    learning_rate: float = 0.1
    final_learning_rate: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_frames: int = 400
    time_shift: bool = False  # cut crops from the clip as if it went round in a circle
    mixup_alpha: float = 0.4  # 0: no mixup
    mel_mask: int = 0  # widest mask in bins; 0: none
    time_mask: int = 0  # widest mask in frames; 0: none
    mixstyle_probability: float = 0.0  # of a clip's mel bins getting a part of another clip's mean and deviation
    mixstyle_alpha: float = 0.4  # of the Beta distribution that the part comes from
    scene_weight: float = 0.9  # of the scene classifier's loss; the group classifier has the rest
    soft_weight: float = 0.0  # of the distillation loss; the labels' cross-entropy has the rest
    group_soft_weight: float | None = None  # the same of the group classifier alone, where it differs
    temperature: float = 2.0

    def __post_init__(self) -> None:
        ends = self.cycle_ends
        if not ends or list(ends) != sorted(set(ends)) or ends[0] < 1:
            raise ValueError(f"cycle_ends must be increasing epochs from 1, not {list(ends)}")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: BatchNorm needs more than one clip")
        for name in ("scene_weight", "soft_weight", "group_soft_weight", "mixstyle_probability"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value}")
        for name in ("mixup_alpha", "mel_mask", "time_mask", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if min(self.temperature, self.learning_rate, self.crop_frames, self.mixstyle_alpha) <= 0:
            raise ValueError("temperature, learning_rate, crop_frames and mixstyle_alpha must be positive")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(f"final_learning_rate must be between 0 and learning_rate, not {self.final_learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {self.momentum}")
        for name in ("learning_rate", "temperature", "weight_decay", "mixup_alpha", "mixstyle_alpha"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, not {getattr(self, name)}")

    @property
    def soft_weights(self) -> tuple[float, float]:
        """Of the scene and of the group classifier."""
        return self.soft_weight, self.soft_weight if self.group_soft_weight is None else self.group_soft_weight

    @property
    def epochs(self) -> int:
        return self.cycle_ends[-1]
