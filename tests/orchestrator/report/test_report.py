"""report/index.html says what the run's folder says, to everyone, and needs nothing but itself."""

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from orchestrator.report.build import write_report
from orchestrator.report.formats import MISSING
from tests.orchestrator.report.pages import Page, read
from tests.orchestrator.report.sample_runs import BEST, SCENES, edit_results, make_trials, write_run

HOSTILE = '</script><img src=x onerror="alert(1)">&%{x}'
LOADS = ("src", "href", "srcset", "data", "action", "poster")


def read_with(folder: Path, change: Callable[[dict[str, Any]], None]) -> Page:
    run = write_run(folder, make_trials(2))
    edit_results(run, change)
    return read(run)


MINUS = "\N{MINUS SIGN}"


class TestVerdict:
    def test_the_first_sentence_has_the_files_accuracy_log_loss_and_sizes(self, page):
        assert (
            "The exported TFLite file recognises 58.7% of the test split (macro accuracy over 10 scenes, 300 clips) "
            "at a log loss of 1.260; it counts 118,220 bytes by the challenge's rule and takes 148,624 bytes on disk."
        ) in page.text

    def test_tiles_set_it_against_chance_and_the_plain_student(self, page):
        assert "chance 10.0%" in page.text
        assert "uniform guess 2.303" in page.text  # ln 10
        distillation = "+4.2 points over the plain student [-0.3, +8.1]: no difference that this test can show"
        assert distillation in page.text.replace(MINUS, "-")

    def test_a_generated_corpus_is_told_and_only_that(self, page, tmp_path):
        notice = "Generated corpus: these accuracies prove the plumbing and mean nothing outside it."
        assert notice not in page.text
        generated = read_with(tmp_path / "run", lambda results: results["corpus"].update(generated=True))
        assert notice in generated.text


class TestEvaluation:
    def test_comparison_has_every_system_in_order(self, page):
        table = page.table("Test split, 300 clips")
        assert table.column("System") == [
            "Teacher first",
            "Teacher attention",
            "Ensemble of teachers",
            "Plain student, torch",
            "Distilled student, torch",
            "Distilled student, ONNX",
            "Distilled student, TFLite",
        ]
        assert table.column("Accuracy") == ["66.7%", "68.7%", "69.3%", "55.3%", "59.3%", "59.3%", "58.7%"]
        assert table.column("Log loss") == ["1.100", "1.080", "1.040", "1.320", "1.240", "1.240", "1.260"]
        assert table.row("Distilled student, TFLite")[3:] == ["scene 2.0e-04 group 5.0e-04", "3.92 ms"]
        assert table.row("Distilled student, torch")[3:] == ["", ""]
        assert table.marked == ["Distilled student, TFLite"]

    def test_class_table_has_the_papers_form_and_column(self, page):
        table = page.table("Accuracy per class")
        assert table.rows[0] == ["Class", "Clips", "Ensemble", "Plain", "Distilled TFLite", "Zhao 2021, system 3"]
        assert [row[0] for row in table.rows[1:]] == [*SCENES, "Avg accuracy", "Size"]
        assert table.row("metro_station") == ["30", "86.7%", "73.3%", "76.7%", "57.6%"]
        assert table.row("street_traffic") == ["30", "60.0%", "43.3%", "46.7%", "83.2%"]
        assert table.row("Avg accuracy") == ["300", "69.3%", "55.3%", "58.7%", "59.9%"]
        assert table.row("Size") == ["", MISSING, MISSING, "115.4 KiB", "116 KB"]
        assert "reported by Zhao (DCASE 2021) on real TAU data" in table.caption

    def test_the_papers_numbers_stand_beside_real_tau_data_only(self, tmp_path):
        def generated(results: dict[str, Any]) -> None:
            results["corpus"]["generated"] = True

        def other_scenes(results: dict[str, Any]) -> None:
            text = json.dumps(results).replace('"tram"', '"rain"')
            results |= json.loads(text)

        for change in (generated, other_scenes):
            page = read_with(tmp_path / change.__name__, change)
            assert "Zhao" not in page.text and "59.9%" not in page.text
            assert page.table("Accuracy per class").row("Avg accuracy") == ["300", "69.3%", "55.3%", "58.7%"]

    def test_a_scene_without_test_clips_is_a_dash(self, tmp_path):
        def drop(results: dict[str, Any]) -> None:
            models = results["models"]
            for report in (models["ensemble"], models["plain"], models["student"]["tflite"]):
                del report["per_class"]["bus"]
                report["confusion"][1] = [0] * len(SCENES)

        page = read_with(tmp_path / "run", drop)
        assert page.table("Accuracy per class").row("bus")[:4] == [MISSING] * 4
        assert page.table("Confusion matrix").row("bus")[-2:] == ["0", MISSING]

    def test_devices(self, page):
        table = page.table("Macro accuracy on the test split by recording device")
        assert table.column("Device") == ["a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6"]
        assert table.row("s6") == ["33", "60.0%", "46.0%", "49.0%", "1.500"]

    def test_a_corpus_without_devices_says_so(self, tmp_path):
        def drop(results: dict[str, Any]) -> None:
            models = results["models"]
            for report in (models["ensemble"], models["plain"], *models["student"].values()):
                report["per_device"] = {}

        page = read_with(tmp_path / "run", drop)
        assert "This corpus does not name recording devices." in page.text
        assert not [table for table in page.tables if "recording device" in table.caption]

    def test_confusions_are_counts_by_row_and_the_worst_are_named(self, run, page):
        matrix = json.loads((run / "results.json").read_text())["models"]["student"]["tflite"]["confusion"]
        table = page.table("Confusion matrix")
        for scene, counts in zip(SCENES, matrix, strict=True):
            share = counts[SCENES.index(scene)] / 30
            assert table.row(scene) == [*map(str, counts), "30", f"{100 * share:.1f}%"]
        worst = page.table("The most frequent confusions").rows[1]
        assert worst == ["metro", "metro_station", "9", "30%"]
        assert max(count for i, row in enumerate(matrix) for j, count in enumerate(row) if i != j) == 9


class TestRecord:
    def test_the_kept_average_is_marked(self, page):
        table = page.table("Ways from a training's snapshots")
        assert table.row("distilled student") == [] and table.row("plain student") == []
        assert table.marked == ["weighted average"] * 2
        assert table.rows[4] == ["weighted average", "58.3%", "1.172", "kept"]

    def test_sizes_and_times(self, page):
        table = page.table("The exported student")
        assert table.row("Non-zero parameters") == ["59,110", ""]
        assert table.row("MACs per clip") == ["113.3 M", ""]
        assert table.row("Bytes by the challenge's rule") == ["118,220", "92.4%"]
        assert table.row("student.tflite on disk") == ["148,624", "116.1%"]
        times = page.table("Time per stage")
        assert times.row("teachers") == ["5 h 39 min", "55%"]
        assert times.row("labels") == ["41.0 s", "0%"]
        assert times.row("All") == ["10 h 20 min", ""]

    def test_corpus_quarantine_and_notes(self, page):
        assert page.table("Clips per split").rows[1:] == [["train", "11,862"], ["validation", "2,100"], ["test", "300"]]
        quarantine = page.table("Recordings left out")
        assert quarantine.row("audio/bus-x<y>.wav") == ["holds no samples"]
        notes = page.table("What was done to recordings")
        assert notes.rows[1][:2] == ["repeated from 400000 to 441000 samples", "12"]
        assert notes.row("mixed from 2 channels") == ["1", "audio/metro-1.wav"]
        copies = page.table("Pairs of recordings")
        assert copies.row("audio/bus-1.wav") == ["train", "audio/bus-2.wav", "test", "12.0%"]

    def test_config_and_versions(self, page):
        assert "# a <comment> & more" in page.text
        assert page.table("What computed this").row("torch") == ["2.11.0"]


class TestPage:
    def test_nothing_is_loaded_from_elsewhere(self, page):
        loads = [value for _, attributes in page.tags for name in LOADS if (value := attributes.get(name))]
        assert set(loads) == {"data:,", *(value for value in loads if value.startswith("#"))}
        assert not re.search(r"url\(|@import", page.scripts["style"])

    def test_plotly_is_inside_once(self, run, page):
        assert gzip.decompress(base64.b64decode(page.scripts["plotly"])).decode() == get_plotlyjs()
        assert (run / "report" / "index.html").stat().st_size < 2_500_000

    def test_tables_and_charts_speak_to_those_who_do_not_see_them(self, page):
        assert all(table.caption for table in page.tables)
        assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
        labels = [attributes["aria-label"] for _, attributes in page.tags if "data-figure" in attributes]
        assert len(labels) == len(page.figures()) == 4
        search = f"15 trials; the best, {BEST} ends after 30 epochs at"  # one failed before its first epoch ended
        assert any(search in (label or "") for label in labels)

    def test_links_lead_to_sections(self, page):
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
        assert len(set(ids)) == len(ids)
        assert len(links) == 11 and {str(link)[1:] for link in links} <= set(ids)

    def test_differences_stand_with_their_interval_and_in_words(self, page):
        text = page.text.replace(MINUS, "-")
        assert "Distilled minus plain, over 3 seeds: accuracy +4.2 [-0.3, +8.1] points, no difference" in text
        assert "log loss -0.15 [-0.22, -0.07], better." in text and "over 84 locations and the seeds" in text
        assert [row[1:] for row in page.table("The final students of every seed").rows[1:]] == [
            ["57.0%", "1.200", "54.0%", "1.350"],
            ["58.0%", "1.200", "54.0%", "1.340"],
            ["59.0%", "1.200", "54.0%", "1.330"],
        ]

    def test_the_chosen_recipe_stands_beside_the_default(self, page):
        table = page.table("The candidates on validation, each again with 3 seeds")
        assert [[cell.replace(MINUS, "-") for cell in row[3:]] for row in table.rows[1:]] == [
            [MISSING, "the default", "12%"],
            ["+0.13 [+0.04, +0.21]", "worse", "0%"],
            ["-0.03 [-0.06, -0.00]", "better", "88%"],
        ]
        assert table.marked == [f"{BEST} chosen"]

    def test_names_are_text_wherever_they_stand(self, tmp_path):
        rows = make_trials(3)
        rows[2]["trial"] = HOSTILE
        run = write_run(tmp_path / "run", rows)

        def rename(results: dict[str, Any]) -> None:
            results["best_trial"]["name"] = HOSTILE
            results["models"]["teachers"] = {"<b>": results["models"]["teachers"]["first"]}
            text = json.dumps(results).replace('"tram"', '"<i>tram&"')
            results |= json.loads(text)

        edit_results(run, rename)
        page = read(run)
        assert not {"img", "i"} & {tag for tag, _ in page.tags}
        assert page.table("Trials").marked == [HOSTILE]
        assert page.table("Accuracy per class").row("<i>tram&")[0] == "30"
        assert page.table("Test split").rows[1][0] == "Teacher <b>"
        escaped = HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert escaped in [trace["text"] for trace in page.figures()["curves-search"]["data"]]

    def test_writing_again_gives_the_same_bytes(self, tmp_path):
        run = write_run(tmp_path / "run", make_trials(2))
        path = run / "report" / "index.html"
        assert write_report(run) == path
        before = path.read_bytes()
        write_report(run)
        assert path.read_bytes() == before


def without_search(run: Path) -> Path:
    """A run's folder as one without a search has it."""
    (run / "trials.parquet").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"stage": "search"' not in line))
    return run


class TestWhatMayBeMissing:
    """Runs without a search, without a plain student, and without a clip left to measure on."""

    def test_a_run_without_search_and_plain_student(self, tmp_path):
        def bare(results: dict[str, Any]) -> None:
            results["best_trial"] = results["models"]["plain"] = None
            results["models"]["distilled_minus_plain"] = None
            del results["averages"]["plain"]

        run = without_search(write_run(tmp_path / "run", make_trials(2)))
        edit_results(run, bare)
        page = read(run)
        assert page.table("Accuracy per class").rows[0] == [
            "Class",
            "Clips",
            "Ensemble",
            "Distilled TFLite",
            "Zhao 2021, system 3",
        ]
        assert page.table("Macro accuracy on the test split").rows[0][2:4] == ["Ensemble", "Distilled TFLite"]
        assert "points over the plain student" not in page.text
        assert "The search" not in page.text and "Learning curves" in page.text

    def test_a_run_that_trained_on_everything_points_to_the_run_before(self, tmp_path):
        def total(results: dict[str, Any]) -> None:
            results["best_trial"] = results["models"] = None
            results["refit_of"] = "tau-demo-01234567"
            del results["averages"]["plain"]

        run = without_search(write_run(tmp_path / "run", make_trials(2)))
        edit_results(run, total)
        page = read(run)
        assert "Trained on every clip of the corpus, so none is left to measure on" in page.text
        assert "tau-demo-01234567" in page.text
        assert "118,220 bytes by the challenge's rule" in page.text
        assert "recognises" not in page.text and "Confusion" not in page.text

    def test_a_run_from_before_is_still_reported(self, tmp_path):
        def older(results: dict[str, Any]) -> None:
            del results["refit_of"], results["complexity"]["peak_activations"]

        page = read_with(tmp_path / "run", older)
        assert "118,220 bytes" in page.text and "peak" not in page.text


@pytest.mark.parametrize(
    ("limits", "share", "columns"),
    [
        ("{bytes: 236440}", "Size by the rule50.0% of 236,440 bytes", ["Quantity", "Value", "Of the limit"]),
        ("{bytes: null}", "Size by the rule118,220 bytes, without a limit", ["Quantity", "Value"]),
    ],
)
def test_sizes_are_shown_beside_the_runs_own_limit(tmp_path, limits, share, columns):
    run = write_run(tmp_path / "run", make_trials(4))
    (run / "config.yaml").write_text(f"name: tau-demo\nlimits: {limits}\n")
    page = read(run)
    assert share in page.text
    rows = page.table("The exported student").rows
    assert rows[0] == columns and {len(row) for row in rows} == {len(columns)}
