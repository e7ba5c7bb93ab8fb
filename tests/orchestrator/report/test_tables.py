"""Numbers that the report computes itself."""

import math

import pytest
from scipy.stats import binomtest

from orchestrator.report import formats, paper
from orchestrator.report.coverage import interval
from orchestrator.report.folder import RunFolder
from orchestrator.report.formats import outcome_of
from orchestrator.report.schema import Comparison, Interval
from orchestrator.report.tables import paper_system
from orchestrator.report.trials import importances
from tests.orchestrator.report.sample_runs import SCENES, make_trials, write_run


@pytest.mark.parametrize("system", ["1", "2", "3", "4"])
def test_the_papers_classes_average_to_its_average(system):
    assert sorted(paper.ACCURACIES) == SCENES
    mean = sum(paper.accuracy(system, scene) for scene in SCENES) / 10
    assert mean == pytest.approx(paper.AVERAGES[system], abs=6e-4)


@pytest.mark.parametrize(
    ("experiment", "system"),
    [("dcase2021-1", "1"), ("dcase2021-4", "4"), ("dcase2021-2-refit", "2"), ("dcase2021", "3"), ("mine", "3")],
)
def test_a_preset_of_a_system_is_compared_with_that_system(experiment, system):
    assert paper_system(experiment) == system


def test_interval_by_hand():
    # 2 of 2 has the exact limits sqrt(0.025) and 1; the mean of two such classes goes down by sqrt(2) / 2 of that.
    down = (1 - math.sqrt(0.025)) * math.sqrt(2) / 2
    assert interval([[2, 0], [0, 2]]) == pytest.approx((1 - down, 1))
    assert interval([[0, 2], [2, 0]]) == pytest.approx((0, down))
    assert interval([[1, 1], [0, 0]]) == pytest.approx((1 - math.sqrt(0.975), math.sqrt(0.975)))


@pytest.mark.parametrize(("hits", "clips"), [(0, 1), (1, 1), (3, 8), (20, 27), (0, 80), (79, 80)])
def test_of_one_class_it_is_the_exact_interval(hits, clips):
    expected = binomtest(hits, clips).proportion_ci(0.95, "exact")
    assert interval([[hits, clips - hits], [0, 0]]) == pytest.approx((expected.low, expected.high))


def test_interval_leaves_out_classes_without_clips():
    assert interval([[2, 0, 0], [0, 2, 0], [0, 0, 0]]) == interval([[2, 0], [0, 2]])
    assert interval([[0]]) == (0.0, 1.0)


def folder_with(tmp_path, losses: list[float], weights: list[float]) -> RunFolder:
    rows = make_trials(len(losses))
    for index, (row, loss, weight) in enumerate(zip(rows, losses, weights, strict=True)):
        row |= {"state": "stopped", "accuracy": 0.5, "log_loss": loss, "recipe.soft_weight": weight}
        row |= {"recipe.scene_weight": 0.9, "recipe.mixup_alpha": 0.1 + 0.1 * (index % 3)}
        row |= {"recipe.temperature": 2.0, "recipe.learning_rate": 0.1, "model.rows": "(32, 36, 40)"}
    return RunFolder.read(write_run(tmp_path / "run", rows))


def test_the_setting_that_decides_is_the_most_important(tmp_path):
    weights = [(7 * index % 16) / 16 for index in range(16)]
    run = folder_with(tmp_path, [2 - weight for weight in weights], weights)
    shares, reason = importances(run.trials, run.select_by)
    assert [name for name, _ in shares] == ["recipe.soft_weight", "recipe.mixup_alpha"]
    assert shares[0][1] > 0.9 and sum(share for _, share in shares) == pytest.approx(1)
    assert reason == ""


@pytest.mark.parametrize(
    ("losses", "weights", "reason"),
    [
        ([1.0, 1.1, 1.2], [0.1, 0.2, 0.3], "at least 4 trials"),
        ([1.5] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "same value"),
        ([1.0, 1.1, 1.2, math.nan], [0.1, 0.2, 0.3, 0.4], "there are 3"),
    ],
)
def test_importances_are_left_out_with_a_reason(tmp_path, losses, weights, reason):
    run = folder_with(tmp_path, losses, weights)
    shares, why = importances(run.trials, run.select_by)
    assert shares == [] and reason in why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.percent(0.5987), "59.9%"),
        (formats.percent(math.nan), formats.MISSING),
        (formats.percent(None), formats.MISSING),
        (formats.points(-0.012), "\N{MINUS SIGN}1.2"),
        (formats.whole(118220), "118,220"),
        (formats.duration(4.68), "4.7 s"),
        (formats.duration(673.52), "11 min 14 s"),
        (formats.duration(59.97), "60.0 s"),
        (formats.duration(3661), "1 h 01 min"),
        (formats.milliseconds(0.000392), "0.392 ms"),
        (formats.setting(0.918620038), "0.919"),
        (formats.setting("(1, 2)"), "(1, 2)"),
        (formats.scientific(2.02e-4), "2.0e-04"),
    ],
)
def test_formats(text, expected):
    assert text == expected


def test_what_distillation_changes_is_one_line():
    accuracy = Interval(value=0.042, low=0.023, high=0.062, verdict="better")
    log_loss = Interval(value=-0.1, low=-0.3, high=0.1, verdict="no difference")
    found = outcome_of(Comparison(accuracy=accuracy, log_loss=log_loss, seeds=3, locations=84))
    assert found.replace("\N{MINUS SIGN}", "-") == (
        "accuracy +4.2 [+2.3, +6.2] points (better), log loss -0.10 [-0.30, +0.10] "
        "(no difference that this test can show); 95 % intervals over 84 locations and 3 seeds"
    )
