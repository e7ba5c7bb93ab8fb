"""Clips' static channel where it lies: rows of a tensor that may be a file, mapped into memory and larger than that."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TRANSFERRED = 256  # clips that are copied to a device at a time
SHARE = 0.5  # of a GPU's free memory that clips may take: training needs some, too


@dataclass(frozen=True)
class Static:
    """The static channel of clips."""

    values: Tensor  # float16 (row, mel, frame); nothing here writes to it
    rows: Tensor  # int64 (clip,): each clip's row

    @classmethod
    def of(cls, values: Tensor) -> "Static":
        """Of clips that are all the rows, in their order."""
        return cls(values, torch.arange(len(values), device=values.device))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(clip, mel, frame)."""
        _, mel_bins, frames = self.values.shape
        return len(self.rows), mel_bins, frames

    def is_on(self, device: torch.device) -> bool:
        """Whether the clips lie on this device; of "cuda" on the one that is meant."""
        return torch.empty(0, device=device).device == self.values.device

    def to(self, device: torch.device) -> "Static":
        """On another device these clips alone. They stay if they are there already, or it has no room for them."""
        if self.is_on(device) or math.prod(self.shape) * self.values.element_size() > room_on(device):
            return self
        moved = torch.empty(self.shape, dtype=self.values.dtype, device=device)
        for part, target in zip(self.split(TRANSFERRED), moved.split(TRANSFERRED), strict=True):
            target.copy_(part)
        return Static.of(moved)

    def split(self, size: int) -> Iterator[Tensor]:
        """The clips in their order, `size` at a time: float16 (at most size, mel, frame)."""
        for rows in self.rows.split(size):
            yield self.values[rows]


def room_on(device: torch.device) -> float:
    """Bytes that clips may take there."""
    return SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
