"""Losses of the two classifiers, hard and soft. Targets are probability rows, as mixup makes them."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from models.heads import Logits
from models.recipe import KlSettings, Recipe


@dataclass(frozen=True)
class Targets:
    """Probability rows (batch, class), mixed as the batch was; soft ones are at the recipe's temperature."""

    scene: Tensor
    group: Tensor
    soft_scene: Tensor | None
    soft_group: Tensor | None


class Loss(Protocol):
    """Made from its settings and the recipe."""

    def __call__(self, logits: Logits, targets: Targets) -> Tensor:
        """The mean loss over a batch, a scalar. Without groups, logits and targets of the group have width 0."""
        ...


class Kl:
    """PAPER 2.2: scene_weight * scene loss + (1 - scene_weight) * group loss, each of hard and soft labels."""

    def __init__(self, settings: KlSettings, recipe: Recipe) -> None:
        self.mean_over: Literal["batch", "elements"] = settings.mean_over
        self.recipe = recipe

    def __call__(self, logits: Logits, targets: Targets) -> Tensor:
        recipe = self.recipe
        scene_soft, group_soft = recipe.soft_weights
        scene = self.one(logits[0], targets.scene, targets.soft_scene, scene_soft)
        group = self.one(logits[1], targets.group, targets.soft_group, group_soft)
        return recipe.scene_weight * scene + (1 - recipe.scene_weight) * group

    def one(self, logits: Tensor, hard: Tensor, soft: Tensor | None, soft_weight: float) -> Tensor:
        """The loss of one classifier."""
        return classifier_loss(logits, hard, soft, soft_weight, self.recipe.temperature, self.mean_over)


def distillation(
    logits: Tensor, soft: Tensor, temperature: float, mean_over: Literal["batch", "elements"] = "batch"
) -> Tensor:
    """T^2 * KL(soft || softmax(logits / T)), summed over classes, mean over the batch (Hinton et al. 2015).

    `soft` (batch, class) are probabilities already taken at temperature T; zeros are tolerated. The factor
    T^2 keeps the gradient's size when T changes. With `mean_over` "elements" it is the mean over batch and classes, as
    in the scripts of CP-JKU's DCASE 2023 submission; weights of one do not carry over to the other.
    """
    student = torch.log_softmax(logits / temperature, dim=1)
    reduction = "batchmean" if mean_over == "batch" else "mean"
    return F.kl_div(student, soft, reduction=reduction) * temperature**2


def soften(scores: Tensor, temperature: float) -> Tensor:
    """Log-scores (clip, class) -> probabilities at `temperature`."""
    return torch.softmax(scores / temperature, dim=1)


def classifier_loss(
    logits: Tensor,
    hard: Tensor,
    soft: Tensor | None,
    soft_weight: float,
    temperature: float,
    mean_over: Literal["batch", "elements"] = "batch",
) -> Tensor:
    """(1 - w) * cross-entropy with the labels + w * distillation. All rows (batch, class); tolerates no classes."""
    if logits.shape[1] == 0:
        return logits.sum()
    loss = (1 - soft_weight) * F.cross_entropy(logits, hard)
    if soft is not None:
        loss = loss + soft_weight * distillation(logits, soft, temperature, mean_over)
    return loss
