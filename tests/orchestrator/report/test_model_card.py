"""model_card.md: what the files expect and answer, what was measured, what it is not for."""

from typing import Any

import pytest

from orchestrator.report.build import write_model_card
from tests.orchestrator.report.sample_runs import edit_results, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def card_of(run) -> str:
    write_model_card(run)
    return (run / "model_card.md").read_text(encoding="utf-8")


def test_input_is_told_for_both_layouts(run):
    card = card_of(run)
    assert "| `student.tflite` | (1, 128, 423, 3) | batch, mel, frame, channel |" in card
    assert "| `student.onnx` | (1, 3, 128, 423) | batch, channel, mel, frame |" in card
    assert "One clip of 10 s, mono, 44,100 Hz" in card


def test_outputs_are_in_the_files_order(run):
    card = card_of(run)
    assert "- `scene` (1, 10): airport, bus, metro, metro_station, park," in card
    assert "- `group` (1, 3): indoor, outdoor, transportation\n" in card
    assert "largest product of its own and its group's probability" in card


def test_metrics_have_their_split_and_size_its_limit(run):
    card = card_of(run)
    assert "On the test split, 300 clips." in card
    assert "| Distilled student, TFLite | 58.7% | 52.8 to 64.0 | 1.260 |" in card
    assert "| metro_station | 30 | 76.7% | 1.260 |" in card
    assert "| device s6 | 33 | 49.0% | 1.500 |" in card
    assert "118,220 bytes by the rule of DCASE 2021 task 1a, whose limit is 128,000." in card
    assert "    stillhouse predict RUN/models/student.tflite *.wav" in card


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("{bytes: 256000}", "task 1a; the limit of this run was 256,000. On"),
        ("{bytes: null}", "task 1a. On"),
        ("{macs: 5}", "task 1a, whose limit is 128,000. On"),
    ],
)
def test_another_limit_is_said(run, limits, words):
    (run / "config.yaml").write_text(f"name: tau-demo\nlimits: {limits}\n")
    assert f"118,220 bytes by the rule of DCASE 2021 {words}" in card_of(run)


def test_a_generated_corpus_is_a_limit(run):
    assert "generated" not in card_of(run).lower()
    edit_results(run, lambda results: results["corpus"].update(generated=True))
    card = card_of(run)
    assert "Generated corpus: these accuracies prove the plumbing and mean nothing outside it." in card
    assert "- The corpus is generated: the numbers above prove nothing about real recordings." in card


def test_names_cannot_change_the_markdown(run):
    def rename(results: dict[str, Any]) -> None:
        results["corpus"]["root"] = "/data/<script>|x`\n# Heading"
        results["decision"] = "scene"

    edit_results(run, rename)
    card = card_of(run)
    assert r"under /data/&lt;script&gt;\|x\` # Heading (features" in card
    assert "The answer is the scene with the largest probability; the group is not used." in card


def test_a_run_that_trained_on_everything_has_no_metrics(run):
    def total(results: dict[str, Any]) -> None:
        results["best_trial"] = results["models"] = None
        results["refit_of"] = "tau-demo-01234567"

    edit_results(run, total)
    card = card_of(run)
    assert "no clip is left to measure on, and tau-demo-01234567 shows what to" in card
    assert "## Metrics" not in card and "## Size" in card
    assert "distilled from 2 larger networks" in card
