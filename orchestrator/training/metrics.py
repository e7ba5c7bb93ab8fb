"""Metrics of probabilities against labels: macro-average accuracy and log loss (DCASE 2021 task 1a).

Written out in numpy, and tested against scikit-learn, because every trial's process imports this and
scikit-learn takes seconds to import.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def summary(labels: Ints, probabilities: Floats) -> dict[str, float]:
    return {"accuracy": macro_accuracy(labels, probabilities), "log_loss": log_loss(labels, probabilities)}


def full_report(labels: Ints, probabilities: Floats, scenes: Sequence[str], devices: Sequence[str]) -> dict[str, Any]:
    """`summary`, and the same per class and per device, and the confusion matrix.

    Per class, "accuracy" is the share of that scene's clips recognised and "log_loss" their mean.
    """
    device_of = np.array(devices)
    of_class = {scene: labels == index for index, scene in enumerate(scenes)}
    of_device = {device: device_of == device for device in sorted(set(devices)) if device}
    return {
        **summary(labels, probabilities),
        "clips": len(labels),
        "per_class": {name: part(labels, probabilities, rows) for name, rows in of_class.items() if rows.any()},
        "per_device": {name: part(labels, probabilities, rows) for name, rows in of_device.items()},
        "confusion": confusion_matrix(labels, probabilities).tolist(),
    }


def part(labels: Ints, probabilities: Floats, rows: NDArray[np.bool_]) -> dict[str, float | int]:
    return {**summary(labels[rows], probabilities[rows]), "clips": int(rows.sum())}


def rank(row: Mapping[str, Any], metric: str) -> float:
    """A row's place by log loss or by accuracy: the lower, the better."""
    return row[metric] if metric == "log_loss" else -row[metric]


def best_row(rows: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The row with the lowest log loss or the highest accuracy; the earlier one of equals."""
    return min(rows, key=lambda row: rank(row, metric))
