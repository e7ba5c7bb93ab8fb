"""Settings of the model families. Without torch, so that a config is read in an instant."""

import math
from dataclasses import dataclass
from typing import Literal

from models.table import Settings

BYTES_PER_PARAMETER = 2  # fp16
LARGEST = 64_000 * BYTES_PER_PARAMETER
"""Bytes that a student may have. Satisfies both readings of the challenge's 128 KB: 128,000 bytes and 128 KiB (DCASE
2021 task 1a)."""

# Of the map, before the classes (models/heads.py: with_loudest). "mean_max" makes an exported file 320 bytes longer,
# for which the default widths leave no room below 128,000 bytes on disk.
Pooling = Literal["mean", "mean_max"]


MOST_FILTERS = 10_000  # of a layer, or layers: what nobody means


def require_sizes(name: str, *sizes: int) -> None:
    """Raise ValueError for widths and depths that are none, or that no memory holds."""
    if not 1 <= min(sizes) <= max(sizes) <= MOST_FILTERS:
        raise ValueError(f"{name} must be from 1 to {MOST_FILTERS:,}")


def require_residual(weight: float | None) -> None:
    """Raise ValueError for a weight of residual normalisation that is none."""
    if weight is not None and not 0 <= weight < math.inf:
        raise ValueError(f"residual_norm must be a weight from 0, or null for none, not {weight}")


class Spec(Settings):
    """What the settings of every family have in common."""

    family: str

    @property
    def mel_slices(self) -> int:
        """How many equal slices the model cuts the mel axis into."""
        return 1


@dataclass(frozen=True)
class MobnetSpec(Spec):
    """Widths of the Mobnet. The defaults have 59,121 parameters with BatchNorm folded (10 + 3 classes)."""

    family: str = "mobnet"
    stem: int = 32  # filters of the first convolution
    rows: tuple[int, ...] = (32, 36, 40)  # filters of each row of blocks; a row halves mel and frame
    blocks_per_row: int = 3  # the first of which halves mel and frame
    expansion: int = 2  # a block's inner filters, as a multiple of its own
    tail: int = 56  # filters of the last convolution of a branch
    shared: int = 48  # filters before the two classifiers
    dropout: float = 0.3  # share of values that are dropped before the classifiers
    residual_norm: float | None = None  # weight of the input beside its normalised self; 0: normalised alone; None: off
    pooling: Pooling = "mean"  # over mel and frames; mean_max adds the loudest moment
    branches: int = 1  # equal slices of the mel axis with weights of their own; the paper merges two into one

    def __post_init__(self) -> None:
        widths = (self.stem, self.tail, self.shared, self.blocks_per_row, self.expansion, *self.rows)
        require_sizes("mobnet widths", *widths)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"mobnet dropout must be in [0, 1), not {self.dropout}")
        require_sizes("mobnet branches", self.branches)
        require_residual(self.residual_norm)

    @property
    def mel_slices(self) -> int:
        return self.branches


@dataclass(frozen=True)
class TwoPathSpec(Spec):
    """Size of the two-path ResNet: 18 convolution layers at the default depth."""

    family: str = "two_path"
    width: int = 24  # filters of the first stack; each later stack doubles them
    stacks: int = 4  # of residual blocks
    blocks_per_stack: int = 2  # of two convolutions each
    paths: int = 2  # slices of the mel axis with weights of their own
    residual_norm: float | None = None  # as the Mobnet's
    pooling: Pooling = "mean"  # over mel and frames; mean_max adds the loudest moment
    attention: Literal["none", "channel", "channel_spatial", "frequency"] = "none"  # the paper's teacher 2 has some
    attention_at: Literal["head", "stacks"] = "head"  # before the classifiers, or after every stack of a path

    def __post_init__(self) -> None:
        sizes = (self.width, self.stacks, self.blocks_per_stack, self.paths)
        require_sizes("two_path width, stacks, blocks_per_stack and paths", *sizes)
        require_residual(self.residual_norm)

    @property
    def mel_slices(self) -> int:
        return self.paths
