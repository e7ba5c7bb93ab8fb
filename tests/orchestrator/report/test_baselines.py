"""Runs without teachers and without groups: page, card, terminal and submission name what was done, and no more."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from orchestrator.config.experiment import to_yaml
from orchestrator.config.loading import load
from orchestrator.finished.mlflow import results_row
from orchestrator.monitor.view import View
from orchestrator.report.build import write_model_card
from orchestrator.report.schema import Results
from orchestrator.report.terminal import summarise
from orchestrator.submission.meta import build_meta
from tests.orchestrator.report.pages import read
from tests.orchestrator.report.sample_runs import make_trials, without_groups, without_teachers, write_run


@pytest.fixture
def baseline(tmp_path) -> Path:
    return without_teachers(write_run(tmp_path / "run", make_trials(4)))


@pytest.fixture
def ungrouped(tmp_path) -> Path:
    return without_groups(write_run(tmp_path / "run", make_trials(4)))


def results_of(run: Path) -> Results:
    return Results.read(run / "results.json")


def card_of(run: Path) -> str:
    write_model_card(run)
    return (run / "model_card.md").read_text(encoding="utf-8")


def summary_of(run: Path) -> list[str]:
    text = io.StringIO()
    summarise(load("demo"), results_of(run), View(Console(file=text, width=200)))
    return text.getvalue().splitlines()


class TestWithoutTeachers:
    def test_the_page_compares_the_models_that_there_are(self, baseline):
        page = read(baseline)
        table = page.table("Test split, 300 clips")
        assert table.column("System") == ["Student, torch", "Student, ONNX", "Student, TFLite"]
        assert table.marked == ["Student, TFLite"]
        assert page.table("Accuracy per class").rows[0] == ["Class", "Clips", "Student TFLite", "Zhao 2021, system 3"]
        assert page.table("Macro accuracy").rows[0] == ["Device", "Clips", "Student TFLite", "Log loss"]
        assert set(page.figures()) == {"curves-search", "curves-final", "parallel"}

    def test_nothing_claims_a_teacher_or_a_distillation(self, baseline):
        said = (read(baseline).text + card_of(baseline) + "".join(summary_of(baseline))).lower()
        for word in ("teacher", "ensemble", "distil", "soft label"):
            assert word not in said

    def test_the_card_says_what_it_was_trained_on(self, baseline):
        assert "It was\ntrained on the recordings' labels alone and stored as a TFLite file" in card_of(baseline)

    def test_the_terminal_lists_the_student_alone(self, baseline):
        assert summary_of(baseline)[1:4] == [
            "on the test split      accuracy  log loss",
            "student, TFLite file      0.587     1.260",
            "student, torch            0.593     1.240",
        ]

    def test_other_tools_get_what_was_measured(self, baseline):
        names = {name.rpartition(".")[0] for name in results_row(results_of(baseline)) if name.endswith("log_loss")}
        assert names == {"student.torch", "student.onnx", "student.tflite"}

    def test_a_submission_names_no_distillation(self, baseline):
        results = results_of(baseline)
        assert results.product is not None
        affiliation = {"abbreviation": "A", "institute": "B", "location": "C"}
        author = {"lastname": "D", "firstname": "E", "email": "f", "corresponding": True, "affiliation": affiliation}
        about = {"label": "Doe_Inst_task1a_1", "name": "G", "abbreviation": "H", "authors": [author]}
        config = yaml.safe_load(to_yaml(load("dcase2021")))
        meta = build_meta({"submission": about}, results, config, results.product, [np.ones(4, np.float16)])
        described = meta.system.description
        assert described.machine_learning_method == "CNN"
        assert described.complexity_management == "weight quantization to float16"

    def test_the_average_of_the_student_is_found(self, baseline):
        assert results_of(baseline).average.weights == {30: 0.8, 126: 0.9}
        assert "plain student" in read(baseline).text  # in the table of averages


class TestWithoutGroups:
    def test_the_page_speaks_of_scenes_alone(self, ungrouped):
        page = read(ungrouped)
        assert "10 scenes; features" in page.text and "group" not in page.text.lower()
        assert page.table("Test split").row("Distilled student, TFLite")[3] == "scene 2.0e-04"
        assert "decisions are those of the scene classifier alone" in page.text

    def test_the_card_has_one_output(self, ungrouped):
        card = card_of(ungrouped)
        assert "- `scene` (1, 10): airport" in card and "group" not in card
        assert "The answer is the scene with the largest probability.\n" in card
