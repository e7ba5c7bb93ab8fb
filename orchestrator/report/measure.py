"""The report of one model on the test split."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.schema import Part, Report
from orchestrator.training.metrics import Floats, Ints, confusion_matrix, summary


def measure(labels: Ints, probabilities: Floats, scenes: Sequence[str], devices: Sequence[str]) -> Report:
    """Accuracy and log loss, the same by class and by device, and the confusion matrix.

    labels (clip,) are indices into `scenes`, probabilities (clip, scene); `devices` has "" where one is not known.
    """
    device_of = np.array(devices)
    of_class = {scene: labels == index for index, scene in enumerate(scenes)}
    of_device = {device: device_of == device for device in sorted(set(devices)) if device}
    return Report(
        **summary(labels, probabilities),
        clips=len(labels),
        per_class={name: part(labels, probabilities, rows) for name, rows in of_class.items() if rows.any()},
        per_device={name: part(labels, probabilities, rows) for name, rows in of_device.items()},
        confusion=confusion_matrix(labels, probabilities).tolist(),
    )


def part(labels: Ints, probabilities: Floats, rows: NDArray[np.bool_]) -> Part:
    return Part(**summary(labels[rows], probabilities[rows]), clips=int(rows.sum()))
