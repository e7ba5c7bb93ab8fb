"""Metrics against scikit-learn, on generated inputs and on one case worked out by hand."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from orchestrator.training.metrics import confusion_matrix, log_loss, macro_accuracy, summary

Case = tuple[NDArray[np.int64], NDArray[np.float64]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels that may leave classes out, and rows that may be certain: of the label, or of something else."""
    classes = draw(st.integers(2, 6))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=30))
    rows = []
    for _ in labels:
        if draw(st.booleans()):
            rows.append(np.eye(classes)[draw(st.integers(0, classes - 1))])
        else:
            weights = np.array(draw(st.lists(st.floats(1e-6, 1), min_size=classes, max_size=classes)))
            rows.append(weights / weights.sum())
    return np.array(labels), np.array(rows)


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_metrics_are_scikit_learns(case: Case):
    labels, probabilities = case
    classes = list(range(probabilities.shape[1]))
    decisions = probabilities.argmax(1)
    matrix = confusion_matrix(labels, probabilities)
    assert np.array_equal(matrix, metrics.confusion_matrix(labels, decisions, labels=classes))
    with warnings.catch_warnings():  # of decisions for a class that no label has, and of a single label
        warnings.simplefilter("ignore", UserWarning)
        expected = metrics.balanced_accuracy_score(labels, decisions)
    assert macro_accuracy(labels, probabilities) == pytest.approx(expected, abs=1e-12)
    expected = metrics.log_loss(labels, probabilities, labels=classes)
    assert log_loss(labels, probabilities) == pytest.approx(expected, abs=1e-12)
    assert summary(labels, probabilities) == {
        "accuracy": macro_accuracy(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
    }


def test_macro_accuracy_weighs_classes_not_clips():
    labels = np.array([0, 0, 0, 0, 2])
    decided = np.eye(3)[[0, 0, 0, 1, 1]]
    assert macro_accuracy(labels, decided) == pytest.approx((3 / 4 + 0) / 2)  # class 1 does not occur


def test_log_loss_by_hand():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert log_loss(np.array([0, 1]), probabilities) == pytest.approx((math.log(4) + math.log(2)) / 2)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_certainty_costs_what_float64s_epsilon_says(kind):
    """Whatever the type of the probabilities: 52 ln 2 for a certain mistake, nothing for a certain hit."""
    rows = np.eye(2, dtype=kind)[[0]]
    assert log_loss(np.array([1]), rows) == pytest.approx(52 * math.log(2))
    assert log_loss(np.array([0]), rows) == 0.0


def test_float32_probabilities_are_taken_as_they_are():
    rows = np.array([[0.1, 0.9]], np.float32)
    assert log_loss(np.array([0]), rows) == pytest.approx(-math.log(float(np.float32(0.1))), rel=1e-12)


def test_the_confusion_matrix_has_labels_in_rows_and_every_class():
    matrix = confusion_matrix(np.array([0, 0, 2]), np.eye(4)[[1, 0, 1]])
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_the_first_of_equals_is_the_decision():
    assert confusion_matrix(np.array([1]), np.array([[0.2, 0.4, 0.4]])).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
