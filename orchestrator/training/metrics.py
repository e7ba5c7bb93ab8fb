"""Metrics of probabilities against labels: macro-average accuracy and log loss (DCASE 2021 task 1a).

Written out in numpy, and tested against scikit-learn, because every trial's process imports this and
scikit-learn takes seconds to import.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.training.rows import Measured

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
MeanOver = Literal["clips", "devices"]


def confusion_matrix(labels: Ints, probabilities: Floats) -> NDArray[np.int64]:
    """Counts (label, decision), the decision being the most probable class."""
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def macro_accuracy(labels: Ints, probabilities: Floats) -> float:
    """Mean over the classes that occur of the share of their clips that is recognised."""
    matrix = confusion_matrix(labels, probabilities)
    present = matrix.sum(1) > 0
    return float((matrix.diagonal()[present] / matrix.sum(1)[present]).mean())


def log_loss(labels: Ints, probabilities: Floats) -> float:
    """Mean over clips of -ln p(label), each p kept above float64's epsilon as scikit-learn does."""
    return float(losses(labels, probabilities).mean())


def losses(labels: Ints, probabilities: Floats) -> NDArray[np.float64]:
    """-ln p(label) of each clip."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(chosen.clip(np.finfo(np.float64).eps))


def summary(labels: Ints, probabilities: Floats) -> Measured:
    """Macro accuracy and log loss of probabilities (clip, scene)."""
    return {"accuracy": macro_accuracy(labels, probabilities), "log_loss": log_loss(labels, probabilities)}


def objective(labels: Ints, probabilities: Floats, devices: Sequence[str], mean_over: MeanOver) -> Measured:
    """The metrics over all clips, or their means over the recording devices, each of which then counts the same."""
    if mean_over == "clips":
        return summary(labels, probabilities)
    rows = [np.array(devices) == device for device in sorted(set(devices))]
    parts = [summary(labels[some], probabilities[some]) for some in rows]
    return {
        "accuracy": fmean(part["accuracy"] for part in parts),
        "log_loss": fmean(part["log_loss"] for part in parts),
    }
