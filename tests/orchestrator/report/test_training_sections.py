"""The search and the learning curves on the page."""

import json

import pytest

from orchestrator.report.formats import MISSING
from orchestrator.storage.files import read_json, write_json
from tests.orchestrator.report.pages import read
from tests.orchestrator.report.sample_runs import BEST, CYCLES, FINAL_CYCLES, make_trials, write_run


class TestSearch:
    def test_trials_are_ordered_by_how_far_they_came_and_what_they_reached(self, page):
        table = page.table("Trials")
        rows = table.rows[1:]
        assert len(rows) == 16
        assert rows[0][:5] == [BEST, "finished chosen", "30", "56.1%", "1.231"] and table.marked == [BEST]
        assert [row[1] for row in rows[-2:]] == ["failed", "failed"]
        alive = [(-int(row[2]), float(row[4])) for row in rows[1:-2]]
        assert alive == sorted(alive)
        assert "16 trials: 3 finished, 11 stopped, 2 failed." in page.text

    def test_a_failed_trial_has_its_reason_and_no_numbers(self, page):
        failed = page.table("Trials").rows[-2]
        assert failed[0].endswith("the loss became NaN in epoch 1 <lr & T>")
        assert failed[3:5] == [MISSING, MISSING]

    def test_accuracy_selects_where_the_config_says_so(self, tmp_path):
        rows = [row | {"trial": f"t{i}", "state": "stopped", "epochs": 2} for i, row in enumerate(make_trials(3))]
        rows[0] |= {"accuracy": 0.4, "log_loss": 1.0}
        rows[1] |= {"accuracy": 0.5, "log_loss": 1.1}
        rows[2] |= {"accuracy": 0.6, "log_loss": 1.2}
        run = write_run(tmp_path / "run", rows)
        results = read_json(run / "results.json")
        write_json(run / "results.json", results | {"select_by": "accuracy"})
        page = read(run)
        assert [row[0] for row in page.table("Trials").rows[1:]] == ["t2", "t1", "t0"]
        assert page.figures()["parallel"]["data"][0]["line"]["color"] == [0.4, 0.5, 0.6]

    def test_one_trial_has_no_parallel_coordinates_and_no_importances(self, tmp_path):
        page = read(write_run(tmp_path / "run", make_trials(1)))
        assert page.table("Trials").rows[1][0] == BEST
        assert "1 trial: 1 finished." in page.text
        assert "they need two trials that did not fail and a setting that varies" in page.text
        assert "Importances need at least 4 trials that did not fail; there are 1." in page.text
        assert "parallel" not in page.figures()

    def test_parallel_coordinates_hold_the_trials_that_did_not_fail(self, page):
        (trace,) = page.figures()["parallel"]["data"]
        labels = [axis["label"] for axis in trace["dimensions"]]
        assert labels == [
            "scene_weight", "soft_weight", "temperature", "mixup_alpha", "learning_rate", "rows",
            "epochs", "accuracy", "log_loss",
        ]  # fmt: skip
        axes = dict(zip(labels, trace["dimensions"], strict=True))
        alive = [row for row in make_trials(16) if row["state"] != "failed"]
        assert trace["line"]["color"] == pytest.approx([row["log_loss"] for row in alive])
        assert axes["soft_weight"]["values"] == pytest.approx([row["recipe.soft_weight"] for row in alive])
        rates = [10**value for value in axes["learning_rate"]["values"]]  # spans decades
        assert rates == pytest.approx([row["recipe.learning_rate"] for row in alive])
        assert axes["rows"]["ticktext"] == ["(24, 40, 48)", "(32, 36, 40)"]
        assert axes["epochs"]["ticktext"] == ["2", "6", "14", "30"]
        assert axes["log_loss"]["range"][0] > axes["log_loss"]["range"][1]  # up is better on every axis


class TestCurves:
    @pytest.mark.parametrize(
        ("stage", "ends"), [("teachers", FINAL_CYCLES), ("search", CYCLES), ("final", FINAL_CYCLES)]
    )
    def test_cycle_ends_are_marked(self, page, stage, ends):
        figure = page.figures()[f"curves-{stage}"]
        assert [shape["x0"] for shape in figure["layout"]["shapes"]] == ends
        trace = figure["data"][0]
        dots = [x for x, size in zip(trace["x"], trace["marker"]["size"], strict=True) if size]
        assert dots == [end for end in ends if end <= len(trace["x"])]

    def test_a_curve_is_what_training_measured(self, run, page):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [line for line in lines if line["trial"] == "final-distilled"]
        traces = [trace for trace in page.figures()["curves-final"]["data"] if trace["text"] == "final-distilled"]
        for quantity, trace in zip(("accuracy", "log_loss", "loss", "learning_rate"), traces, strict=True):
            assert trace["x"] == list(range(1, 127))
            assert trace["y"] == pytest.approx([row[quantity] for row in rows], rel=1e-4)

    def test_the_best_trial_is_drawn_last_and_named_first(self, page):
        figure = page.figures()["curves-search"]
        assert figure["data"][-1]["text"] == BEST
        shown = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
        assert shown[::-1] == ["best trial", "finished", "stopped", "failed"]
        assert figure["layout"]["legend"]["traceorder"] == "reversed"

    def test_without_validation_there_are_no_panels_of_it(self, tmp_path):
        run = write_run(tmp_path / "run", make_trials(1))
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [json.dumps(row | {"accuracy": None, "log_loss": None}) for row in rows]
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        figure = read(run).figures()["curves-teachers"]
        assert [title["text"] for title in figure["layout"]["annotations"]] == ["Training loss", "Learning rate"]
        assert len(figure["data"]) == 4 and [trace["showlegend"] for trace in figure["data"]] == [True, False] * 2
        losses = [row["loss"] for row in rows if row["trial"] == "teacher-first"]
        assert figure["data"][0]["y"] == pytest.approx(losses, rel=1e-4)

    def test_numbers_that_are_none_are_gaps(self, page):
        broken = [t for t in page.figures()["curves-search"]["data"] if t["text"].startswith("student-05")]
        assert [trace["y"] for trace in broken][2] == [None]
