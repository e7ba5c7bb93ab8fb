"""What calls for another setting, by numbers that do and numbers that do not."""

import math
from typing import Any

import pytest

from orchestrator.report.advice import advice
from orchestrator.report.schema import Results
from tests.orchestrator.report.sample_runs import make_results

SPACE = {"recipe.temperature": {"low": 1.0, "high": 8.0, "log": True}, "model.rows": {"choices": [[8], [16]]}}


def results(change: Any = None) -> Results:
    values = make_results()
    values["corpus"]["clips"] = {"train": 900, "validation": 50, "test": 300}
    values["best_trial"]["settings"] = {"recipe.temperature": 3.4, "model.rows": [8]}
    if change:
        change(values)
    return Results.model_validate(values)


def product(values: dict[str, Any]) -> dict[str, Any]:
    return values["models"]["student"]["tflite"]


def test_a_run_whose_numbers_are_in_order_is_told_nothing():
    assert advice(results(), SPACE) == [] == advice(results(), {})


@pytest.mark.parametrize(("loss", "lines"), [(math.log(10), 0), (19.5, 1)])
def test_a_log_loss_above_a_uniform_guess(loss, lines):
    found = advice(results(lambda values: product(values).update(log_loss=loss)), SPACE)
    assert len(found) == lines
    assert all("The log loss 19.500 is above a uniform guess's 2.303" in line and "calibrate" in line for line in found)


def test_scenes_that_are_never_predicted():
    def never(values: dict[str, Any]) -> None:
        for row in product(values)["confusion"]:
            row[0] += row[1] + row[9]
            row[1] = row[9] = 0

    (line,) = advice(results(never), SPACE)
    assert line.startswith("Never predicted: bus, tram. ")


@pytest.mark.parametrize(("clips", "lines"), [(49, 1), (50, 0), (0, 0)])
def test_a_validation_of_few_clips(clips, lines):
    found = advice(results(lambda values: values["corpus"]["clips"].update(validation=clips)), SPACE)
    assert len(found) == lines
    assert all("49 validation clips, 4.9 a scene" in line and "validation.folds=3" in line for line in found)


def test_a_validation_by_folds_is_of_all_training_clips():
    def folds(values: dict[str, Any]) -> None:
        values["corpus"]["clips"].update(validation=10)
        values["artifacts"]["fold1-labels"] = "artifacts/labels/x"

    assert advice(results(folds), SPACE) == []


@pytest.mark.parametrize(
    ("value", "end"), [(1.0, "lower"), (1.04, "lower"), (1.05, None), (7.6, None), (7.7, "upper"), (8, "upper")]
)
def test_a_recipe_on_an_end_of_what_was_searched(value, end):
    chosen = {"recipe.temperature": value}
    found = advice(results(lambda values: values["best_trial"]["settings"].update(chosen)), SPACE)
    assert [f"lies on the {end} end of search.space (1 to 8)" in line for line in found] == [True] * (end is not None)
    assert all("widen search.space.recipe.temperature" in line for line in found)
