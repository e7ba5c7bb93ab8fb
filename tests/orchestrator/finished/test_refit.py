"""What a refit takes over of a run: its choices, and what was fitted on the clips that it trains on now."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import UserError
from orchestrator.finished.refit import refit_of
from tests.orchestrator.report.sample_runs import edit_results, make_trials, write_run

ENDS = [2, 6, 14, 30, 62, 126]


@pytest.fixture
def run(tmp_path) -> Path:
    return write_run(tmp_path / "run", make_trials(1))


def made_with(run: Path, **settings: Any) -> Path:
    """The run, of the demo with these settings."""
    student = {"recipe": {"cycle_ends": ENDS}, "average": [30, 126]}
    content = {"extends": "demo", "student": student, **settings}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    return run


@pytest.mark.parametrize(
    ("total", "splits"), [(False, ("train", "validation")), (True, ("train", "validation", "test"))]
)
def test_recipe_average_and_weights_are_those_that_the_run_has_chosen(run, total, splits):
    found = refit_of(made_with(run, calibrate_teachers=False), total)
    recipe = found.student.recipe
    assert (recipe.scene_weight, recipe.temperature) == (0.81, 3.4)
    assert found.student.average == (30, 126) and found.student.weights == (0.8, 0.9)
    assert found.corpus.fit_on == splits and found.search is None and not found.plain and found.refit_of == "run"
    assert found.name == ("demo-total" if total else "demo-refit") and found.calibrate_teachers is False


@pytest.mark.parametrize("own", [True, [0.5, 2.0]])
def test_teachers_that_were_calibrated_are_at_the_temperatures_that_were_fitted_on_validation(run, own):
    edit_results(made_with(run, calibrate_teachers=own), lambda results: results.update(label_temperatures=[0.4, 0.45]))
    assert refit_of(run, False).calibrate_teachers == (0.4, 0.45)


def test_a_run_whose_student_had_no_soft_labels_has_nothing_to_divide(run):
    own = {"distilled": False, "label_temperatures": None}
    edit_results(made_with(run, calibrate_teachers=True), lambda results: results.update(own))
    assert refit_of(run, False).calibrate_teachers is False


def test_results_without_temperatures_are_an_earlier_version_s(run):
    edit_results(run, lambda results: results.pop("label_temperatures"))
    with pytest.raises(UserError, match=r"results.json is an earlier version's.*: run the experiment again$"):
        refit_of(made_with(run, calibrate_teachers=True), False)
