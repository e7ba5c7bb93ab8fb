"""What a student may cost."""

from dataclasses import dataclass
from typing import Literal

from models.specs import LARGEST
from models.table import Settings

Cost = Literal["bytes", "macs", "peak"]
COSTS: tuple[Cost, ...] = ("bytes", "macs", "peak")


@dataclass(frozen=True)
class Limits(Settings):
    """What a student may cost at most; the run's own and those of its search are refused before they are trained."""

    bytes: int | None = LARGEST  # of fp16 weights: the challenge's 128,000, or a device's; null: as many as there are
    macs: int | None = None  # multiply-accumulates of one clip
    peak: int | None = None  # values alive at once between layers, of one clip

    def __post_init__(self) -> None:
        for name in COSTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
