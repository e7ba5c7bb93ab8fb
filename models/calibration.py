"""Calibration: one temperature that makes a classifier as sure as it is right (Guo et al. 2017)."""

import torch
from torch import Tensor

from models.prediction import Predictions

COLDEST, HOTTEST = 0.01, 100.0


@torch.no_grad()
def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature T at which softmax(scores / T) has the least cross-entropy with the labels.

    scores (clip, class) are logits or log-probabilities, labels (clip,) classes. The cross-entropy is convex in 1 / T,
    so its slope is bisected; T is within COLDEST and HOTTEST, which it reaches where every clip is right, or none is.
    """
    scores = scores.double()
    right = scores.gather(1, labels[:, None]).squeeze(1)

    def slope(inverse: float) -> float:
        expected = (torch.softmax(inverse * scores, dim=1) * scores).sum(1)
        return float((expected - right).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def temperatures_of(predictions: Predictions, scene: Tensor, group: Tensor) -> tuple[float, float]:
    """The temperature of the scene and of the group classifier; 1 where there are no groups.

    scene (clip, scene) and group (clip, group) are the labels as probability rows.
    """
    found = fit_temperature(predictions.scene.log(), scene.argmax(1))
    return found, fit_temperature(predictions.group.log(), group.argmax(1)) if group.shape[1] else 1.0
