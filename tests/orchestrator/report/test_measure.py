"""The report of a model, worked out by hand."""

import math

import numpy as np
import pytest

from orchestrator.report.measure import measure


def test_the_full_report_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.array(
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.25, 0.75]]
    )
    devices = ["a", "a", "b", "a", "b", ""]
    report = measure(labels, probabilities, ["bus", "park", "tram"], devices)
    dumped, ln2 = report.model_dump(), math.log(2)
    # Bus: right, wrong, right. Park: 0.5 loses to the equal before it, right, wrong. Tram does not occur.
    assert dumped["per_class"] == {
        "bus": {"accuracy": pytest.approx(2 / 3), "log_loss": pytest.approx((ln2 + 2 * ln2) / 3), "clips": 3},
        "park": {"accuracy": pytest.approx(1 / 3), "log_loss": pytest.approx((ln2 + 2 * ln2) / 3), "clips": 3},
    }
    # A device's accuracy is a mean over classes too; a clip of no known device is in none.
    assert dumped["per_device"] == {
        "a": {"accuracy": pytest.approx((1 / 2 + 0) / 2), "log_loss": pytest.approx(4 * ln2 / 3), "clips": 3},
        "b": {"accuracy": 1.0, "log_loss": pytest.approx(0), "clips": 2},
    }
    assert (report.accuracy, report.log_loss) == (pytest.approx(1 / 2), pytest.approx(ln2))
    assert report.clips == 6
    assert report.confusion == [[2, 1, 0], [1, 1, 1], [0, 0, 0]]
