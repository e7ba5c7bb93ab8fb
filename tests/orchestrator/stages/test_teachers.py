"""What teachers are called, and what is said of them."""

import pytest

from orchestrator.config.loading import load
from orchestrator.stages.teachers import describe, title_of, titled, votes
from orchestrator.training.record import Training, Trial
from tests.orchestrator.training.rows import row_of


def training(cut: str = "") -> Training:
    return Training("teachers", f"teacher-{titled('wide', cut)}", 2, 14, {"teacher": "wide"}, cut=cut)


def test_a_teacher_of_a_fold_has_its_name():
    assert [title_of(training(cut)) for cut in ("", "fold2")] == ["wide", "wide-fold2"]
    assert votes(load("demo", ["teachers.wide.ensemble=[14]"]), training("fold2")) == (14,)


@pytest.mark.parametrize(("accuracy", "text"), [(0.5634, "wide-fold2 0.563 on validation"), (None, "wide-fold2")])
def test_a_teacher_is_described_by_what_it_has_reached_where_that_was_measured(accuracy, text):
    last = {**row_of(14, 1.5, cycle_end=True), "accuracy": accuracy}
    rows = [row_of(6, 1.9, cycle_end=True), last]
    assert describe(Trial(training("fold2"), rows)) == text
