"""A family and a loss of a user's own package, through the whole chain; an experiment without teachers and groups."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from features.generated import CorpusSize, make_corpus
from features.taxonomy import TAU_GROUPS
from tests.integration.tools import stillhouse

pytestmark = pytest.mark.integration

SCENES = sorted(scene for scenes in TAU_GROUPS.values() for scene in scenes)
EXPERIMENT = {
    "name": "own",
    "corpus": {"layout": "tau", "validation_fraction": 0.3, "groups": None, "scenes": SCENES},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "student": {
        "model": {"family": "stillhouse_tiny.family:Tiny", "width": 6},
        "recipe": {
            "cycle_ends": [1, 3],
            "crop_frames": 32,
            "batch_size": 8,
            "soft_weight": 0.0,
            "loss": {"name": "stillhouse_tiny.loss:Smoothed", "share": 0.2},
        },
        "average": [1, 3],
    },
    "search": {
        "trials": 2,
        "cycle_ends": [1, 2],
        "sampler": "random",
        "stopping": "none",
        "space": {"model.width": {"low": 4, "high": 12}, "recipe.loss.share": {"low": 0.0, "high": 0.3}},
    },
    "decision": "scene",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("own")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    experiment = {**EXPERIMENT, "corpus": {**EXPERIMENT["corpus"], "root": str(home / "corpus")}}
    (home / "own.yaml").write_text(yaml.safe_dump(experiment))
    shutil.copytree(Path(__file__).parents[1] / "extension", home / "installed")
    return home


@pytest.fixture(scope="module", autouse=True)
def installed(home):
    """The user's package on the path, as an installation puts it there; Ray's workers have the path of the driver."""
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(home / "installed"), before))))
        yield


@pytest.fixture(scope="module")
def run(home) -> Path:
    return Path(stillhouse("run", "own.yaml", cwd=home).stdout.splitlines()[-1])


def test_a_family_and_a_loss_of_ones_own_go_through_the_whole_chain(home, run):
    results = json.loads((run / "results.json").read_text())
    best = results["best_trial"]["settings"]
    assert 4 <= best["model.width"] <= 12 and 0 <= best["recipe.loss.share"] <= 0.3
    width = best["model.width"]
    # By hand: two convolutions 3x3 and a classifier 1x1 of ten scenes, each with its bias.
    assert results["complexity"]["parameters"] == (3 * 9 + 1) * width + (width * 9 + 1) * width + (width + 1) * 10
    assert results["export"]["largest_difference_from_torch"]["tflite"]["scene"] < 1e-3
    trials = pq.read_table(run / "trials.parquet").to_pylist()
    assert len({trial["model.width"] for trial in trials} | {trial["recipe.loss.share"] for trial in trials}) >= 3
    assert "every number is equal" in stillhouse("reproduce", str(run), cwd=home).stdout


def test_a_baseline_needs_neither_teachers_nor_groups(home, run):
    results = json.loads((run / "results.json").read_text())
    assert results["models"]["teachers"] == {} and results["models"]["ensemble"] is None
    assert results["models"]["plain"] is None  # the student itself is
    assert results["groups"] == {}
    assert set(results["artifacts"]) == {"features", "search", "final"}
    rows = pq.read_table(run.parent / results["artifacts"]["final"] / "predictions.parquet").to_pylist()
    assert {row["model"] for row in rows} == {"plain", "onnx", "tflite"}
    assert all(np.sum(row["scene"]) == pytest.approx(1, abs=1e-5) and len(row["group"]) == 0 for row in rows)
    assert not (run / "models" / "student-combined.tflite").exists()
    clip = next((home / "corpus" / "audio").glob("park-*.wav"))
    words = stillhouse("predict", str(run / "models/student.tflite"), str(clip), cwd=home).stdout.split("\t")[1]
    assert words.split()[0] in SCENES


def test_changed_code_of_ones_own_is_noticed_and_the_features_are_used_again(home, run):
    file = home / "installed" / "stillhouse_tiny" / "family.py"
    before = file.read_text()
    file.write_text(before.replace("F.relu(self.second", "F.relu6(self.second"))
    try:
        done = stillhouse("run", "own.yaml", cwd=home)
    finally:
        file.write_text(before)
    again = Path(done.stdout.splitlines()[-1])
    assert again == run and "+ search" in done.stdout and done.stdout.count("reused") == 1  # the features
    artifacts = home / "runs" / "artifacts"
    assert len(list((artifacts / "final").iterdir())) == 2 and len(list((artifacts / "features").iterdir())) == 1


def test_a_package_that_is_not_installed_is_one_line(home):
    words = ("--set", "student.model={family: 'nowhere.at:All'}")
    done = stillhouse("run", "own.yaml", *words, cwd=home, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "student.model: nowhere.at:All cannot be imported" in done.stderr
