"""Clips and the augmented batches of an epoch: an index, a slice and tensor work, no per-item Python."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from models import augment
from models.ahead import ahead
from models.heads import Logits
from models.losses import Targets, soften
from models.recipe import AUGMENTATIONS, Recipe
from models.seeding import seeded
from models.static import Static

Labeller = Callable[[Tensor], Logits]
"""A batch of inputs (batch, channel, mel, frame) -> log-scores of scenes and groups, (batch, class) each."""


@dataclass(frozen=True)
class Clips:
    """A split. `soft_*` are the teachers' log-scores, where there are teachers."""

    static: Static  # float16 (clip, mel, frame)
    scene: Tensor  # float32 (clip, scene), one-hot rows
    group: Tensor  # float32 (clip, group), one-hot rows
    soft_scene: Tensor | None = None  # float32 (clip, scene)
    soft_group: Tensor | None = None  # float32 (clip, group)

    def __len__(self) -> int:
        return len(self.static)

    def to(self, device: torch.device) -> "Clips":
        """The same clips with every tensor on `device`."""
        return Clips(
            self.static.to(device),
            self.scene.to(device),
            self.group.to(device),
            None if self.soft_scene is None else self.soft_scene.to(device),
            None if self.soft_group is None else self.soft_group.to(device),
        )


@dataclass(frozen=True)
class Channels:
    """How a static map (batch, mel, frame) becomes a model's input (batch, channel, mel, frame - 2 * context)."""

    expand: Callable[[Tensor], Tensor]
    context: int

    def model_input(self, static: Tensor) -> Tensor:
        """Expanded, and laid out as models train fastest."""
        return self.expand(static).contiguous(memory_format=torch.channels_last)


def batches(
    train: Clips, recipe: Recipe, channels: Channels, *, seed: int, epoch: int, teacher: Labeller | None = None
) -> Iterator[tuple[Tensor, Targets]]:
    """One epoch of augmented batches: model inputs (batch, channel, mel, crop_frames) and their targets.

    Soft targets are the clips' stored ones, mixed as the batch is, or with `teacher` its predictions of the batch as
    the student sees it (Beyer et al. 2022, "A good teacher is patient and consistent").

    Where a GPU has no room for the clips, they are cropped where they lie, by a thread beside the steps.

    Batches differ by at most one clip in size, so that none is too small for BatchNorm.
    """
    clips, mel_bins, frames = train.static.shape
    length = recipe.crop_frames + 2 * channels.context
    assert length <= frames, f"crop of {length} frames from clips of {frames}"
    with seeded(seed, "augment", epoch):
        draws = augment.draw_epoch(
            clips,
            spare_frames=frames - 1 if recipe.time_shift else frames - length,
            mixup_alpha=recipe.mixup_alpha,
            mel_bins=mel_bins,
            crop_frames=recipe.crop_frames,
            mel_mask=recipe.mel_mask,
            time_mask=recipe.time_mask,
        )
    place = train.scene.device
    further = drawn(recipe, clips, seed, epoch, place)
    targets = target_rows(train, recipe, stored=teacher is None)
    count = math.ceil(clips / recipe.batch_size)
    edges = [round(index * clips / count) for index in range(count + 1)]
    crops = cropped(train.static, recipe, draws, edges, length)
    draws = draws.to(place)
    for (low, high), cuts in zip(pairwise(edges), crops if train.static.is_on(place) else ahead(crops), strict=True):
        part = draws.batch(slice(low, high))
        static, *others = (cut.to(place).float() for cut in cuts)
        for other in others:
            static = augment.mix(static, other, part.share)
        for augmentation, numbers in further:
            static = augmentation.apply(static, numbers[low:high])
        x = channels.model_input(static)
        if recipe.mel_mask or recipe.time_mask:
            x = augment.mask(x, part.mel_mask, part.time_mask)
        rows = mixed(targets, part)
        yield x, rows if teacher is None else labelled(rows, teacher(x), recipe.temperature)


def cropped(
    static: Static, recipe: Recipe, draws: augment.Draws, edges: Sequence[int], length: int
) -> Iterator[list[Tensor]]:
    """Of each batch between two `edges` the crops, float16 (batch, mel, length) where the clips lie: of each clip, and
    under mixup of what it is mixed with.
    """
    values, draws = static.values, draws.to(static.values.device)
    crop = augment.crop_circular if recipe.time_shift else augment.crop
    for low, high in pairwise(edges):
        part = draws.batch(slice(low, high))
        wanted = [(part.first, part.first_start), (part.second, part.second_start)]
        mixed = wanted if recipe.mixup_alpha > 0 else wanted[:1]
        yield [crop(values, static.rows[clips], start, length) for clips, start in mixed]


def drawn(
    recipe: Recipe, clips: int, seed: int, epoch: int, device: torch.device
) -> list[tuple[augment.Augmentation, Tensor]]:
    """The recipe's further augmentations, each with what it draws for an epoch from a generator of its own."""
    found = []
    for name, settings in recipe.augment.items():
        augmentation: augment.Augmentation = AUGMENTATIONS.implementation(settings)(settings)
        with seeded(seed, "augment", name, epoch):
            found.append((augmentation, augmentation.draw(clips).to(device)))
    return found


def mixed(targets: Targets, draws: augment.Draws) -> Targets:
    """The targets of a batch made by `draws`; `targets` has every clip's own."""

    def rows(own: Tensor) -> Tensor:
        return augment.mix(own[draws.first], own[draws.second], draws.share)

    return Targets(
        rows(targets.scene),
        rows(targets.group),
        None if targets.soft_scene is None else rows(targets.soft_scene),
        None if targets.soft_group is None else rows(targets.soft_group),
    )


def labelled(targets: Targets, scores: Logits, temperature: float) -> Targets:
    """With soft targets from a teacher's log-scores of the batch itself."""
    scene, group = (soften(score, temperature) for score in scores)
    return replace(targets, soft_scene=scene, soft_group=group)


def target_rows(train: Clips, recipe: Recipe, stored: bool = True) -> Targets:
    """Every training clip's own targets, before mixup; soft ones where the recipe needs them `stored`."""
    if not (stored and any(recipe.soft_weights)):
        return Targets(train.scene, train.group, None, None)
    assert train.soft_scene is not None and train.soft_group is not None, "distillation without soft labels"
    temperature = recipe.temperature
    return Targets(
        train.scene, train.group, soften(train.soft_scene, temperature), soften(train.soft_group, temperature)
    )
