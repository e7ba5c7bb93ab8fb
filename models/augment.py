"""Augmentation of a batch, on the device: crop, time shift, mixup, masks by an epoch's draws; MixStyle beside it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.recipe import MixStyleSettings

STYLE_FLOOR = 1e-3  # of a standard deviation: silence has no style to scale by


@dataclass(frozen=True)
class Draws:
    """Everything random of one epoch, one entry per training clip, drawn ahead on the CPU."""

    first: Tensor  # int64 (clip,): the clips in this epoch's order
    second: Tensor  # int64 (clip,): what each is mixed with
    first_start: Tensor  # int64 (clip,): crop offsets in frames
    second_start: Tensor
    share: Tensor  # float32 (clip,): mixup's lambda, the weight of `first`
    mel_mask: Tensor  # int64 (clip, 2): first masked bin, number of masked bins
    time_mask: Tensor  # int64 (clip, 2): the same in frames

    def batch(self, rows: slice) -> "Draws":
        """The draws of some rows, in the epoch's order."""
        return Draws(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def to(self, device: torch.device) -> "Draws":
        """The same on another device."""
        return Draws(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def draw_epoch(
    clips: int,
    *,
    spare_frames: int,
    mixup_alpha: float,
    mel_bins: int,
    crop_frames: int,
    mel_mask: int,
    time_mask: int,
) -> Draws:
    """Draw an epoch's random numbers from torch's global generator, so seed it first.

    `spare_frames` is the last frame that a crop may start from; masks are uniform in [0, width]. The draws are made
    in a fixed order whatever is switched on, so that switching one thing off leaves the others' draws as they were.
    """
    first, second = torch.randperm(clips), torch.randperm(clips)
    starts = torch.randint(spare_frames + 1, (2, clips))
    mel = _masks(clips, mel_bins, mel_mask)
    time = _masks(clips, crop_frames, time_mask)
    if mixup_alpha > 0:
        share = torch.distributions.Beta(mixup_alpha, mixup_alpha).sample((clips,))
    else:
        share = torch.ones(clips)
    return Draws(first, second, starts[0], starts[1], share, mel, time)


def _masks(clips: int, extent: int, widest: int) -> Tensor:
    width = (torch.rand(clips) * (widest + 1)).long().clamp_max(extent)
    start = (torch.rand(clips) * (extent - width + 1)).long()
    return torch.stack([start, width], dim=1)


def crop(clips: Tensor, rows: Tensor, start: Tensor, frames: int) -> Tensor:
    """Cut `frames` frames from `start` of chosen rows: (clip, mel, frame) -> (batch, mel, frame) of the same dtype."""
    return clips.unfold(2, frames, 1)[rows, :, start]


def crop_circular(clips: Tensor, rows: Tensor, start: Tensor, frames: int) -> Tensor:
    """`crop` from clips whose first frame follows their last, which is a time shift and a crop at once.

    The shift is the "time rolling" of Schmid et al. 2022 (CP-JKU's DCASE 2022 submission), on frames.
    """
    position = (start[:, None] + torch.arange(frames, device=start.device)) % clips.shape[2]
    return clips[rows].gather(2, position[:, None, :].expand(-1, clips.shape[1], -1))


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """mixup (Zhang et al. 2018): share * first + (1 - share) * second, `share` (batch,)."""
    return torch.lerp(second, first, share.to(first.dtype).view(-1, *[1] * (first.dim() - 1)))


class Augmentation(Protocol):
    """A further change of a batch's static channel, before deltas are taken. Made from its settings."""

    def draw(self, clips: int) -> Tensor:
        """Everything random of one epoch, (clip, ...) in the epoch's order, from torch's seeded global generator."""
        ...

    def apply(self, static: Tensor, draws: Tensor) -> Tensor:
        """The changed batch, float32 (batch, mel, frame); `draws` are the batch's rows of what `draw` returned."""
        ...


class MixStyle:
    """MixStyle as an entry of AUGMENTATIONS: for each clip its own style, or a mix with the next clip's."""

    def __init__(self, settings: MixStyleSettings) -> None:
        self.settings = settings

    def draw(self, clips: int) -> Tensor:
        """float32 (clip,): lambda, the weight of a clip's own style; 1 where that stays as it is."""
        share = torch.distributions.Beta(self.settings.alpha, self.settings.alpha).sample((clips,))
        share[torch.rand(clips) >= self.settings.probability] = 1
        return share

    def apply(self, static: Tensor, draws: Tensor) -> Tensor:
        return mixstyle(static, draws)


def mixstyle(static: Tensor, share: Tensor) -> Tensor:
    """Frequency-wise MixStyle (Kim et al. 2022, after Zhou et al. 2021): mix devices' colouring, not scenes.

    Every mel bin's mean and standard deviation over time become share * its own + (1 - share) * the next clip's in the
    batch, whose order is random. static is (batch, mel, frame), share (batch,).
    """
    mean, deviation = static.mean(2, keepdim=True), static.std(2, keepdim=True, correction=0) + STYLE_FLOOR
    share = share[:, None, None]
    mixed_mean = torch.lerp(mean.roll(-1, 0), mean, share)
    mixed_deviation = torch.lerp(deviation.roll(-1, 0), deviation, share)
    return (static - mean) * (mixed_deviation / deviation) + mixed_mean


def mask(x: Tensor, mel: Tensor, time: Tensor) -> Tensor:
    """Zero one band of mel bins and one stretch of frames per clip (SpecAugment, Park et al. 2019).

    x is (batch, channel, mel, frame); the masks are (batch, 2): start and width.
    """
    return x * (_keep(x.shape[2], mel)[:, None, :, None] & _keep(x.shape[3], time)[:, None, None, :])


def _keep(extent: int, span: Tensor) -> Tensor:
    position = torch.arange(extent, device=span.device)
    start, width = span[:, :1], span[:, 1:]
    return (position < start) | (position >= start + width)
