"""The whole chain with folds, cross-fitted labels and a search over size: each part keeps to its cut of recordings."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from features.corpus import TRAIN, VALIDATION
from features.generated import CorpusSize, make_corpus
from orchestrator.config.loading import load
from orchestrator.stages.corpus import tables_of
from tests.integration.tools import stillhouse

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("_all_joined")]

RECIPE = {"cycle_ends": [1, 2], "crop_frames": 32, "batch_size": 16}
EXPERIMENT = {
    "name": "folded",
    "corpus": {"layout": "tau", "validation_fraction": 0.1},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "teachers": {"one": {"model": {"width": 2}, "recipe": RECIPE, "ensemble": [2]}},
    "student": {
        "model": {"stem": 8, "rows": [8, 8]},
        "recipe": {**RECIPE, "soft_weight": 0.5, "moving_average": 0.9},
        "labels": {"name": "crossfit", "parts": 2},
        "average": [1, 2],
        "calibrate": True,
    },
    "validation": {"folds": 2},
    "search": {
        "trials": 4,
        "cycle_ends": [1, 2],
        "objectives": ["log_loss", "bytes"],
        "finalists": {"best": 1, "seeds": 1},
        "space": {"model.stem": {"choices": [4, 8]}, "recipe.mixup_alpha": {"low": 0.1, "high": 0.5}},
    },
    "plain": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("folded")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=4, train_segments=1, seconds=1.0), seed=5)
    experiment = EXPERIMENT | {"corpus": {**EXPERIMENT["corpus"], "root": str(home / "corpus")}}
    (home / "folded.yaml").write_text(yaml.safe_dump(experiment))
    return Path(stillhouse("run", "folded.yaml", cwd=home).stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def artifacts(run) -> dict[str, Path]:
    return {
        name: run.parent / path for name, path in json.loads((run / "results.json").read_text())["artifacts"].items()
    }


def test_every_cut_has_teachers_and_labels_of_its_own(artifacts):
    cuts = ["", "part1-", "part2-", *(f"fold{fold}{part}-" for fold in (1, 2) for part in ("", "part1", "part2"))]
    assert set(artifacts) == {
        *("features", "search", "final"),
        *(f"{cut}teacher-one" for cut in cuts),
        *("labels", "fold1-labels", "fold2-labels"),
    }
    assert len(set(artifacts.values())) == len(artifacts)


def test_what_went_to_its_end_is_judged_on_every_clip_by_a_model_that_has_not_heard_it(run, artifacts):
    """Each fold's labels and scores are as many as its clips; together the folds are all clips but the test's."""
    tables = tables_of(load(str(run / "config.yaml")))
    table = pq.read_table(run / "trials.parquet").to_pylist()
    whole = {row["trial"] for row in table if row["state"] == "finished"}
    assert {"student-01-default", "student-01-default-fold2", "student-02-plain-fold2-seed1"} <= whole
    held_out: list[str] = []
    for cut in ("fold1", "fold2"):
        counts = {split: sum(clip.split == split for clip in tables[cut]) for split in (TRAIN, VALIDATION)}
        held_out += [clip.path for clip in tables[cut] if clip.split == VALIDATION]
        assert len(load_file(artifacts[f"{cut}-labels"] / "labels.safetensors")["scene"]) == counts[TRAIN]
        for row in table:
            if row["cut"] == cut and row["state"] == "finished":
                scores = load_file(artifacts["search"] / "trials" / row["trial"] / "scores.safetensors")
                assert len(scores["loss-0002"]) == counts[VALIDATION], row["trial"]
    assert sorted(held_out) == sorted(clip.path for clip in tables[""] if clip.split in (TRAIN, VALIDATION))


def test_the_front_and_the_calibrated_student_are_in_the_results(run):
    results = json.loads((run / "results.json").read_text())
    assert results["search"]["objectives"] == ["log_loss", "bytes"]
    sizes = results["search"]["sizes"]
    assert {size["trial"] for size in sizes} >= {"student-01-default", "student-02-plain"}
    assert any(size["on_front"] for size in sizes)
    average = results["averages"]["distilled"] or results["averages"]["plain"]
    assert "moving average, epoch 2" in average["tried"] and average["temperatures"] != [1.0, 1.0]
    assert results["complexity"]["bytes"] <= 2 * 7_000  # temperatures cost no weight


def test_a_trial_of_a_fold_is_reproduced(run):
    done = stillhouse("reproduce", str(run), "--trial", "student-02-plain-fold2-seed1", cwd=run.parent)
    assert done.stdout.splitlines()[-1] == "every number is equal"
