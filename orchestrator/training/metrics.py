"""Metrics of probabilities against labels: macro-average accuracy and log loss (DCASE 2021 task 1a).

Written out in numpy, and tested against scikit-learn, because every trial's process imports this and
scikit-learn takes seconds to import.
"""

import numpy as np
from numpy.typing import NDArray

from orchestrator.training.rows import Measured

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


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
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(chosen.clip(np.finfo(np.float64).eps)).mean())


def summary(labels: Ints, probabilities: Floats) -> Measured:
    return {"accuracy": macro_accuracy(labels, probabilities), "log_loss": log_loss(labels, probabilities)}
