"""Losses of the two classifiers, hard and soft. Targets are probability rows, as mixup makes them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(soft || softmax(logits / T)), summed over classes, mean over the batch (Hinton et al. 2015).

    `soft` (batch, class) are probabilities already taken at temperature T; zeros are tolerated. The factor
    T^2 keeps the gradient's size when T changes. "batchmean", not the mean over all elements: weights of
    scripts that use the latter do not carry over.
    """
    student = torch.log_softmax(logits / temperature, dim=1)
    return F.kl_div(student, soft, reduction="batchmean") * temperature**2


def soften(scores: Tensor, temperature: float) -> Tensor:
    """Log-scores (clip, class) -> probabilities at `temperature`."""
    return torch.softmax(scores / temperature, dim=1)


def classifier_loss(
    logits: Tensor, hard: Tensor, soft: Tensor | None, soft_weight: float, temperature: float
) -> Tensor:
    """(1 - w) * cross-entropy with the labels + w * distillation. All rows (batch, class); tolerates no classes."""
    if logits.shape[1] == 0:
        return logits.sum()
    loss = (1 - soft_weight) * F.cross_entropy(logits, hard)
    if soft is not None:
        loss = loss + soft_weight * distillation(logits, soft, temperature)
    return loss
