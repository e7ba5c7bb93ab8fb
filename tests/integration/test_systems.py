"""The paper's four systems at a small size: what they share, Table 1, the total development set, a submission."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from features.generated import CorpusSize, make_corpus
from tests.integration.tools import evaluation_set, stillhouse

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("_all_joined")]

SCHEDULE = "[1, 3]"
SMALL = {
    "features": "{clip_seconds: 1.0, n_mels: 32}",
    "corpus.validation_fraction": "0.3",
    "copies.kinds": "[pitch, spectrum]",
    "teachers.augmented.model.width": "2",
    "teachers.attention.model.width": "2",
    "teachers.augmented.ensemble": "[3]",
    "teachers.attention.ensemble": SCHEDULE,
    "student.average": SCHEDULE,
    **{
        f"{model}.recipe.{name}": value
        for model in ("teachers.augmented", "teachers.attention", "student")
        for name, value in (("cycle_ends", SCHEDULE), ("crop_frames", "32"), ("batch_size", "8"))
    },
    "resources.gpus_per_trial": "0",
}


def overrides(root: Path) -> list[str]:
    settings = {"corpus.root": str(root), **SMALL}
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("systems")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    return home


@pytest.fixture(scope="module")
def table(home) -> Path:
    done = stillhouse("run", "dcase2021-all", *overrides(home / "corpus"), cwd=home)
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def results(table):
    return json.loads((table / "results.json").read_text())


def test_four_systems_cost_two_teachers_and_three_students(home, results):
    artifacts = home / "runs" / "artifacts"
    assert len(list((artifacts / "teacher").iterdir())) == 2
    assert len(list((artifacts / "final").iterdir())) == 3
    assert not (artifacts / "search").exists()
    models = {label: system["artifact"] for label, system in results["systems"].items()}
    assert models["2"] == models["3"] and len(set(models.values())) == 3


def test_systems_2_and_3_read_one_model_in_two_ways(home, results):
    two, three = (home / "runs" / results["systems"][label]["run"] for label in "23")
    assert (two / "models/student.tflite").read_bytes() == (three / "models/student.tflite").read_bytes()
    facts = [json.loads((run / "models/student.json").read_text()) for run in (two, three)]
    assert [fact["decision"] for fact in facts] == ["scene", "combined"]


def test_table_1_has_the_systems_beside_the_paper(table, results):
    rows = list(csv.reader((table / "table1.csv").read_text().splitlines()))
    assert rows[0] == ["class", *(f"{whose} {label}" for label in "1234" for whose in ("ours", "paper"))]
    by_class = {row[0]: row[1:] for row in rows[1:]}
    assert by_class["airport"][1::2] == ["0.5140", "0.5680", "0.5680", "0.5070"]
    assert by_class["Avg accuracy"][1::2] == ["0.5760", "0.5960", "0.5990", "0.5780"]
    for label, ours in zip("1234", by_class["Avg accuracy"][::2], strict=True):
        assert float(ours) == pytest.approx(results["systems"][label]["tflite"]["accuracy"], abs=1e-4)
    page = (table / "report" / "index.html").read_text()
    assert "System 4" in page and "59.9%" in page


def test_a_table_of_runs_is_no_run(home, table):
    for command in ("reproduce", "watch", "report"):
        done = stillhouse(command, str(table), cwd=home, check=False)
        assert done.returncode == 2
        assert "is a table of several runs; give one of them, in the same storage: dcase2021-1-" in done.stderr


def test_a_set_is_no_experiment(home):
    done = stillhouse("corpus", "check", "dcase2021-all", cwd=home, check=False)
    assert done.returncode == 2
    assert "is a set of experiments; name one of them: dcase2021-1, dcase2021-2" in done.stderr


@pytest.fixture(scope="module")
def total(home, results) -> Path:
    done = stillhouse("refit", str(home / "runs" / results["systems"]["3"]["run"]), "--total", cwd=home)
    assert "no clip is left to measure on" in done.stdout
    return Path(done.stdout.splitlines()[-1])


def test_a_total_run_takes_recipe_and_averages_and_measures_nothing(home, total, results):
    base = home / "runs" / results["systems"]["3"]["run"]
    before, after = (json.loads((run / "results.json").read_text()) for run in (base, total))
    assert after["models"] is None and after["refit_of"] == base.name
    assert after["corpus"]["clips"] == {"train": sum(before["corpus"]["clips"].values()), "validation": 0, "test": 0}
    kind = "distilled" if before["distilled"] else "plain"
    assert after["averages"][kind]["weights"] == before["averages"][kind]["weights"]
    assert after["export"]["largest_difference_from_torch"]["tflite"]["scene"] < 1e-3
    rows = [json.loads(line) for line in (total / "metrics.jsonl").read_text().splitlines()]
    assert {row["accuracy"] for row in rows} == {None}
    again = stillhouse("refit", str(total), cwd=home, check=False)
    assert again.returncode == 2 and "is a refit itself" in again.stderr


def test_a_submission_of_the_total_run_reports_what_was_measured_before(home, total, results):
    evaluation_set(home, "tram", "Zhao_M_task1a_3")
    words = ["--evaluation", "evaluation", "--facts", "facts.yaml"]
    folder = stillhouse("submission", "make", str(total), *words, cwd=home).stdout.splitlines()[-1]
    meta = yaml.safe_load((home / folder / "Zhao_M_task1a_3.meta.yaml").read_text())
    measured = results["systems"]["3"]["tflite"]
    overall = meta["results"]["development_dataset"]["overall"]
    assert overall["accuracy"] == pytest.approx(100 * measured["accuracy"], abs=0.01)
    assert meta["system"]["complexity"]["total_parameters"] == 59_121
    assert meta["system"]["description"]["decision_making"] == "product of two classifiers"


def test_responses_without_parallel_recordings_stop_before_training(home, tmp_path):
    make_corpus(tmp_path / "alone", CorpusSize(cities=1, train_locations=2, train_segments=1, seconds=1.0))
    split = tmp_path / "alone" / "evaluation_setup" / "fold1_train.csv"
    header, *rows = split.read_text().splitlines(keepends=True)
    split.write_text("".join([header, *(row for row in rows if "-a.wav" in row)]))
    for setting in ("spectrum.correct=true", "copies={kinds: [dir]}"):
        words = ["--set", setting, "--set", f"student.copies={str(setting.startswith('copies')).lower()}"]
        arguments = ["demo", "--set", f"corpus.root={tmp_path / 'alone'}", "--set", "features.clip_seconds=1.5"]
        arguments += ["--set", "corpus.generate=null", "--set", "validation.leave_out_devices=[]"]
        crop = ["--set", "student.recipe.crop_frames=32"]
        crop += [word for name in ("narrow", "wide") for word in ("--set", f"teachers.{name}.recipe.crop_frames=32")]
        done = stillhouse("run", *arguments, *crop, *words, cwd=home, check=False)
        assert done.returncode == 2
        assert "was recorded by a and another device at once" in done.stderr
        assert done.stderr.strip().count("\n") == 0
