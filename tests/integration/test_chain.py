"""The whole chain on a small generated corpus: really Ray, really Tune, really TFLite."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from features.generated import CorpusSize, make_corpus
from tests.integration.tools import evaluation_set, stillhouse

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("_all_joined")]

RECIPE = {"cycle_ends": [1, 3], "crop_frames": 32, "batch_size": 8}
EXPERIMENT = {
    "name": "small",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "copies": {"kinds": ["noise", "mix"]},
    "teachers": {
        "one": {"model": {"width": 2}, "recipe": RECIPE, "ensemble": [1, 3], "copies": True},
        "two": {"model": {"width": 3}, "recipe": RECIPE, "ensemble": [3]},
    },
    "student": {"recipe": {**RECIPE, "soft_weight": 0.5}, "average": [1, 3]},
    # No trial is stopped early, so that the best one does not depend on which is faster.
    "search": {"trials": 3, "cycle_ends": [1, 2], "stopping": "none", "finalists": {"best": 1, "seeds": 1}},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a corpus that has two bad clips, and the experiment."""
    home = tmp_path_factory.mktemp("home")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    train = sorted((home / "corpus" / "audio").glob("bus-*-a.wav"))
    train[0].write_bytes(b"")
    train[1].write_bytes(train[1].read_bytes()[:1000])
    experiment = EXPERIMENT | {"corpus": {**EXPERIMENT["corpus"], "root": str(home / "corpus")}}
    (home / "small.yaml").write_text(yaml.safe_dump(experiment))
    return home


@pytest.fixture(scope="module")
def run(home) -> Path:
    done = stillhouse("run", "small.yaml", cwd=home)
    folder = Path(done.stdout.splitlines()[-1])
    assert folder.is_dir(), done.stdout
    return folder


@pytest.fixture(scope="module")
def results(run):
    return json.loads((run / "results.json").read_text())


def test_the_run_folder_explains_itself(run):
    for name in ("config.yaml", "versions.json", "metrics.jsonl", "trials.parquet", "report/index.html"):
        assert (run / name).stat().st_size > 0
    assert (run / "model_card.md").stat().st_size > 0
    for suffix in ("tflite", "onnx", "safetensors", "json"):
        assert (run / "models" / f"student.{suffix}").stat().st_size > 0


def test_copies_are_made_of_training_clips_alone(run, results):
    folder = run.parent / results["artifacts"]["features"]
    originals = json.loads((folder / "manifest.json").read_text())
    train = results["corpus"]["clips"]["train"]
    assert results["corpus"]["copies"] == ["noise", "mix"]
    for kind in ("noise", "mix"):
        copy = json.loads((folder / f"manifest-{kind}.json").read_text())
        assert copy["clips"] == train < originals["clips"]
        assert not set(copy["shards"]) & set(originals["shards"])


def test_results_hold_every_number(results):
    models = results["models"]
    reports = [*models["student"].values(), models["plain"], models["ensemble"], *models["teachers"].values()]
    assert len(reports) == 7
    for report in reports:
        assert 0 <= report["accuracy"] <= 1 and np.isfinite(report["log_loss"])
        assert set(report["per_device"]) == {"a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6"}
        assert sum(map(sum, report["confusion"])) == report["clips"] == results["corpus"]["clips"]["test"]
        recalls = [row["accuracy"] for row in report["per_class"].values()]
        assert report["accuracy"] == pytest.approx(np.mean(recalls))
    assert set(models["teachers"]) == {"one", "two"}


def test_the_file_was_run_and_agrees_with_torch(results):
    differences = results["export"]["largest_difference_from_torch"]
    assert differences["tflite"]["scene"] < 1e-3 and differences["onnx"]["scene"] < 1e-4
    student = results["models"]["student"]
    assert student["tflite"]["log_loss"] == pytest.approx(student["torch"]["log_loss"], abs=2e-3)


def test_the_student_obeys_the_size_rule(results):
    size = results["complexity"]
    assert size["bytes"] == 2 * size["non_zero"] <= 2 * 59_400
    assert size["bytes"] < size["file_bytes"]["tflite"] < 128_000


def test_bad_clips_are_in_quarantine_and_nowhere_else(results):
    assert sorted(results["corpus"]["quarantine"].values()) == [
        "the file is empty",
        "truncated: the header promises more samples than the file has",
    ]
    assert results["corpus"]["generated"] is True  # whoever made it


def test_trials_are_named_and_recorded(run, results):
    final = "final-distilled" if results["distilled"] else "final-plain"
    trials = pq.read_table(run / "trials.parquet").to_pylist()
    first = [trial["trial"] for trial in trials if not trial["seed"]]
    assert first == ["student-01-default", "student-02-plain", "student-03"]
    assert trials[0]["recipe.soft_weight"] == 0.5 and trials[1]["recipe.soft_weight"] == 0
    assert {"student-01-default-seed1", "student-02-plain-seed1"} <= {trial["trial"] for trial in trials[3:]}
    assert results["best_trial"]["name"] in first
    assert [one["trial"] for one in results["search"]["candidates"]] == [
        trial["trial"].removesuffix("-seed1") for trial in trials[3:]
    ]
    assert sum(trial["wins"] for trial in trials[:3]) == pytest.approx(1)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    finals = [row["epoch"] for row in rows if row["trial"] == final]
    assert finals == [1, 2, 3]


def test_what_distillation_changes_is_the_difference_of_both_students(results):
    models, compared = results["models"], results["models"]["distilled_minus_plain"]
    if not results["distilled"]:  # on another machine the search may choose the plain recipe: then there is one student
        assert compared is None and models["plain"] is None
        return
    for metric in ("accuracy", "log_loss"):
        expected = models["student"]["torch"][metric] - models["plain"][metric]
        assert compared[metric]["value"] == pytest.approx(expected, abs=1e-6)
        assert compared[metric]["low"] <= compared[metric]["value"] <= compared[metric]["high"]
    assert (compared["seeds"], compared["locations"]) == (1, 10)


def test_a_second_start_does_nothing_again(home, run):
    models = (run / "models" / "student.tflite").read_bytes()
    done = stillhouse("run", "small.yaml", cwd=home)
    assert done.stdout.count("reused") == 6  # features, two teachers, labels, search, final
    assert Path(done.stdout.splitlines()[-1]) == run
    assert (run / "models" / "student.tflite").read_bytes() == models


def test_reproduce_is_equal_to_the_bit(home, run):
    done = stillhouse("reproduce", str(run), cwd=home)
    assert "every number is equal" in done.stdout
    assert "differs" not in done.stdout


def test_a_copied_run_says_what_it_needs_beside_it(home, run, tmp_path):
    copied = shutil.copytree(run, tmp_path / "elsewhere" / run.name)
    done = stillhouse("reproduce", str(copied), cwd=home, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path}/elsewhere has no artifacts/" in done.stderr and "artifacts/search/" in done.stderr
    assert f"or make all again: stillhouse run {copied}/config.yaml" in done.stderr
    shutil.copytree(home / "runs" / "artifacts", copied.parent / "artifacts")
    assert "every number is equal" in stillhouse("reproduce", str(copied), cwd=home).stdout


def test_reproduce_finds_the_recordings_where_they_are_now(home, run):
    """As on one's own machine, after a run on a cluster."""
    (home / "corpus").rename(home / "moved")
    try:
        done = stillhouse("reproduce", str(run), cwd=home, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"the run's recordings are not at {home}/corpus: give --corpus FOLDER" in done.stderr
        assert "every number is equal" in stillhouse("reproduce", str(run), "--corpus", "moved", cwd=home).stdout
    finally:
        (home / "moved").rename(home / "corpus")


def test_predict_says_what_the_device_would(home, run, results):
    rows = pq.read_table(
        run.parent / results["artifacts"]["final"] / "predictions.parquet", filters=[("model", "=", "tflite")]
    ).to_pylist()
    row = rows[0]
    joint = np.array(row["scene"]) * np.array(row["group"])[groups_of(results)]
    best = results["scenes"][int(joint.argmax())]
    done = stillhouse("predict", str(run / "models/student.tflite"), str(home / "corpus" / row["path"]), cwd=home)
    path, words = done.stdout.strip().split("\t")
    assert path.endswith(row["path"])
    assert words.split(",")[0].split() == [best, f"{joint.max() / joint.sum():.3f}"]


def groups_of(results) -> list[int]:
    names = sorted(results["groups"])
    return [next(i for i, name in enumerate(names) if scene in results["groups"][name]) for scene in results["scenes"]]


def test_a_submission_is_made_of_the_run_and_nothing_is_wrong_with_it(home, run):
    names = evaluation_set(home, "park", "Zhao_M_task1a_1")
    words = ["--evaluation", "evaluation", "--facts", "facts.yaml"]
    folder = stillhouse("submission", "make", str(run), *words, cwd=home).stdout.splitlines()[-1]
    rows = (home / folder / "Zhao_M_task1a_1.output.csv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["filename", *names]
    checked = stillhouse("submission", "check", folder, "--evaluation", "evaluation", cwd=home)
    assert checked.stdout == "Zhao_M_task1a_1: nothing is wrong\n"


def test_predict_refuses_a_model_beside_what_describes_another(home, run):
    (home / "other").mkdir()
    shutil.copy(run / "models/student.tflite", home / "other" / "student.tflite")
    facts = json.loads((run / "models/student.json").read_text())
    facts["front_end"]["n_mels"] = 64
    (home / "other" / "student.json").write_text(json.dumps(facts))
    done = stillhouse("predict", "other/student.tflite", "corpus/audio", cwd=home, check=False)
    assert done.returncode == 2 and "student.json do not belong together: one is of 10 scenes" in done.stderr


def test_predict_names_a_bad_file_and_goes_on(home, run):
    soundfile.write(home / "short.flac", np.zeros((8000, 2), np.float32), 16000)
    (home / "text.wav").write_text("not audio")
    model = str(run / "models/student.tflite")
    done = stillhouse("predict", model, "text.wav", "short.flac", "none.wav", cwd=home, check=False)
    assert done.returncode == 2
    first, second, third = done.stdout.splitlines()
    assert first.startswith("text.wav\tnot readable as audio")
    assert "mixed down from 2 channels; resampled from 16000 Hz; tiled from 22050 to 44100 samples" in second
    assert third == "none.wav\tNo such file or directory"


def test_a_long_recording_is_predicted_in_windows(home, run):
    """Each window is what its seconds alone are predicted to be; their mean is the recording's."""
    rate, model = 44_100, str(run / "models/student.tflite")
    sound = np.random.default_rng(0).normal(0, 0.1, round(2.3 * rate)).astype(np.float32)
    sound[rate:] *= np.sin(np.arange(len(sound) - rate) / 40)
    folder = home / "long"
    (folder / "parts").mkdir(parents=True)
    soundfile.write(folder / "whole.wav", sound, rate, "FLOAT")
    for start in (0.0, 1.0, 1.3):
        soundfile.write(folder / "parts" / f"{start}.wav", sound[round(start * rate) :][:rate], rate, "FLOAT")
    done = stillhouse("predict", model, "long", "--hop", "1", "--windows", "--format", "json", cwd=home)
    *parts, whole = json.loads(done.stdout)
    assert [window["start"] for window in whole["windows"]] == [0.0, 1.0, 1.3]
    assert [window["probabilities"] for window in whole["windows"]] == [part["probabilities"] for part in parts]
    for scene, share in whole["probabilities"].items():
        assert share == pytest.approx(np.mean([part["probabilities"][scene] for part in parts]), abs=2e-6)
    for words in (["--hop", "0"], ["--hop", "nan"], ["--hop", "1.5"]):
        done = stillhouse("predict", model, "long", *words, cwd=home, check=False)
        assert done.returncode == 2 and "--hop must be from 0.01 to 1.0 s" in done.stderr


def test_report_can_be_written_again(home, run):
    before = (run / "report" / "index.html").read_text()
    (run / "report" / "index.html").unlink()
    done = stillhouse("report", str(run), cwd=home)
    assert Path(done.stdout.strip()).read_text() == before


def test_a_changed_setting_reruns_what_depends_on_it_and_nothing_else(home, run):
    done = stillhouse("run", "small.yaml", "--set", "student.average=[3]", cwd=home)
    assert done.stdout.count("reused") == 5  # features, two teachers, labels, search
    assert Path(done.stdout.splitlines()[-1]) != run


def test_what_a_power_cut_tears_is_made_again_and_nothing_else(home, run, results):
    model = (run / "models/student.tflite").read_bytes()
    artifacts = {kind: run.parent / name for kind, name in results["artifacts"].items() if isinstance(name, str)}
    (artifacts["final"] / "student.tflite").write_bytes(b"")
    labels = artifacts["labels"] / "labels.safetensors"
    labels.write_bytes(labels.read_bytes()[:100])
    shard = next((run.parent / "shards").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-50])
    done = stillhouse("run", "small.yaml", cwd=home)
    assert (
        f"{labels.parent.relative_to(run.parent)} is damaged and is made again: labels.safetensors is not"
        in done.stdout
    )
    assert "is damaged and is made again: student.tflite is not as it was written" in done.stdout
    assert done.stdout.count("reused") == 3  # two teachers, the search
    assert Path(done.stdout.splitlines()[-1]) == run
    assert (run / "models/student.tflite").read_bytes() == model


@pytest.fixture
def disk(tmp_path):
    """Mount a file system of a given size in MiB; the test is skipped where this is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: float) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={int(size * 1024)}k", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a small file system here: a full disk is not tested")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def test_a_disk_too_small_for_the_features_is_refused_before_anything_is_done(home, disk):
    folder = disk(0.3)
    done = stillhouse("run", "small.yaml", "--storage", str(folder), cwd=home, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"kB free for {folder}, the features alone need" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert not any(path for path in folder.glob("artifacts/*/*"))


def test_a_full_disk_is_one_line_and_with_room_again_the_same_command_ends_in_the_same_model(home, run, disk):
    folder = disk(6.0)
    arguments = ("run", "small.yaml", "--storage", str(folder))
    done = stillhouse(*arguments, cwd=home, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    finished = {path.parent.name for path in folder.glob("artifacts/*/*")}
    assert finished == {"features", "teacher", "labels"}

    subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
    done = stillhouse(*arguments, cwd=home)
    assert done.stdout.count("reused") == 4, done.stdout  # features, two teachers, labels
    again = Path(done.stdout.splitlines()[-1])
    for name in ("student.safetensors", "student.tflite"):
        assert (again / "models" / name).read_bytes() == (run / "models" / name).read_bytes()


def test_a_teacher_that_diverges_is_one_line_and_the_other_is_kept(home, run):
    assert run.is_dir()
    done = stillhouse("run", "small.yaml", "--set", "teachers.one.recipe.learning_rate=1e10", cwd=home, check=False)
    assert done.returncode == 2
    assert "teacher-one failed: the loss is" in done.stderr and "lower learning_rate" in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_a_final_student_that_diverges_is_one_line_and_its_record_says_why(home, run):
    assert run.is_dir()
    settings = ("--set", "search=null", "--set", "student.recipe.learning_rate=1e10")
    done = stillhouse("run", "small.yaml", *settings, cwd=home, check=False)
    assert done.returncode == 2 and done.stdout.count("reused") == 4, done.stdout  # features, two teachers, labels
    assert "raylet" not in done.stdout  # Ray would say there that the other student was killed
    assert re.fullmatch(r"stillhouse: final-\w+ failed: the loss is .* lower learning_rate.*\n", done.stderr), (
        done.stderr
    )
    folders = [file.parent for file in (home / "runs" / "work" / "final").glob("*/trials/*/failure.txt")]
    assert folders
    for folder in folders:
        record = json.loads((folder / "trial.json").read_text())
        assert record["state"] == "failed" and "the loss is" in record["failure"]
        text = (folder / "failure.txt").read_text()
        assert "final_actor.py" in text and "\x1b" not in text
