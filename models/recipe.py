"""The settings of one training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from models.schedule import DOUBLING
from models.table import Entry, Settings, Table

MOST = 1_000_000  # epochs, clips of a batch or frames of a crop: more is a slip
COLDEST = 1e-3  # a temperature that leaves of soft labels the likeliest scene alone


@dataclass(frozen=True)
class SgdSettings(Settings):
    """Stochastic gradient descent, its rate by cosine annealing with warm restarts (PAPER 2.5)."""

    name: str = "sgd"
    momentum: float = 0.9  # share of the last step that is kept
    weight_decay: float = 5e-4  # L2

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, and finite, not {self.weight_decay}")


OPTIMISERS = Table("optimiser", {"sgd": Entry(SgdSettings, "models.optimisers:Sgd")})
"""An implementation is a models/optimisers.py: Optimiser, made from its settings and the recipe."""


@dataclass(frozen=True)
class KlSettings(Settings):
    """Cross-entropy with the labels and KL divergence from the soft labels, of both classifiers (PAPER 2.2)."""

    name: str = "kl"
    # Of the divergence: over the batch alone (Hinton et al. 2015), or over batch and classes, as some published scripts
    # have it: then it is as many times smaller as there are classes.
    mean_over: Literal["batch", "elements"] = "batch"


LOSSES = Table("loss", {"kl": Entry(KlSettings, "models.losses:Kl")})
"""An implementation is a models/losses.py: Loss, made from its settings and the recipe."""


@dataclass(frozen=True)
class MixStyleSettings(Settings):
    """Frequency-wise MixStyle (Kim et al. 2022)."""

    name: str = "mixstyle"
    probability: float = 0.5  # of a clip's mel bins getting a part of another clip's mean and deviation
    alpha: float = 0.4  # of the Beta distribution that the part comes from

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"mixstyle: probability must be between 0 and 1, not {self.probability}")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"mixstyle: alpha must be positive and finite, not {self.alpha}")


AUGMENTATIONS = Table("augmentation", {"mixstyle": Entry(MixStyleSettings, "models.augment:MixStyle")})
"""An implementation is a models/augment.py: Augmentation, made from its settings. Crop, mixup and masks belong to every
recipe and are no entries."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Defaults are the paper's (2.4, 2.5); temperature and soft weight it leaves open."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "arbitrary_types_allowed": True}

    cycle_ends: tuple[int, ...] = DOUBLING  # epochs; an epoch is one pass over the training clips
    batch_size: int = 32  # clips
    learning_rate: float = 0.1  # at the start of each cosine cycle
    final_learning_rate: float = 1e-5  # at its end
    crop_frames: int = 400  # of a clip, drawn anew for each batch
    time_shift: bool = False  # cut crops from the clip as if it went round in a circle
    mixup_alpha: float = 0.4  # 0: no mixup
    mel_mask: int = 0  # widest mask in bins; 0: none
    time_mask: int = 0  # widest mask in frames; 0: none
    augment: Mapping[str, Settings] = field(default_factory=dict)  # further augmentations by name, in this order
    optimiser: Settings = SgdSettings()  # with its schedule
    loss: Settings = KlSettings()  # of distillation
    scene_weight: float = 0.9  # of the scene classifier's loss; the group classifier has the rest
    soft_weight: float = 0.0  # of the distillation loss; the labels' cross-entropy has the rest
    group_soft_weight: float | None = None  # the same of the group classifier alone, where it differs
    temperature: float = 2.0  # that soft labels and the student's scores are divided by in the distillation loss
    # Weight of the past in the moving average of a cycle's weights, which begins anew with each cycle; 0: none.
    moving_average: float = 0.0

    def __post_init__(self) -> None:
        ends = self.cycle_ends
        if not ends or list(ends) != sorted(set(ends)) or ends[0] < 1:
            raise ValueError(f"cycle_ends must be increasing epochs from 1, not {list(ends)}")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: BatchNorm needs more than one clip")
        for name, value in {
            "cycle_ends": ends[-1],
            "batch_size": self.batch_size,
            "crop_frames": self.crop_frames,
        }.items():
            if value > MOST:
                raise ValueError(f"{name} must be at most {MOST:,}, not {value:,}")
        for name in ("scene_weight", "soft_weight", "group_soft_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value}")
        for name in ("mixup_alpha", "mel_mask", "time_mask"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if min(self.learning_rate, self.crop_frames) <= 0:
            raise ValueError("learning_rate and crop_frames must be positive")
        if self.temperature < COLDEST:
            raise ValueError(f"temperature must be at least {COLDEST}, not {self.temperature}")
        if not 0 <= self.moving_average < 1:
            raise ValueError(f"moving_average must be from 0 to below 1, not {self.moving_average}")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(f"final_learning_rate must be between 0 and learning_rate, not {self.final_learning_rate}")
        for name in ("learning_rate", "temperature", "mixup_alpha"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, not {getattr(self, name)}")

    @property
    def soft_weights(self) -> tuple[float, float]:
        """Of the scene and of the group classifier."""
        return self.soft_weight, self.soft_weight if self.group_soft_weight is None else self.group_soft_weight

    @property
    def epochs(self) -> int:
        """How long the training is: until the last cycle's end."""
        return self.cycle_ends[-1]
