"""The same search everywhere: with 1, 2 and 4 workers, at random speeds, and after kills, it gives the same to the bit.

16 trials with stops and TPE's proposals, and a last round; every batch sleeps for a random time.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.machines import Driver, Machines
from features.generated import CorpusSize, make_corpus

pytestmark = pytest.mark.integration

TRIALS = 16
EXPERIMENT = {
    "name": "golden",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "student": {
        "model": {"stem": 8, "rows": [8, 8]},
        "recipe": {
            "cycle_ends": [1, 2, 4, 6],
            "crop_frames": 32,
            "batch_size": 8,
            "soft_weight": 0.0,
            "loss": {"name": "stillhouse_tiny.dawdling:Dawdling"},
        },
        "average": [4, 6],
    },
    "search": {
        "trials": TRIALS,
        "cycle_ends": [1, 2, 4],
        "lag": 2,
        "stopping": {"name": "halving", "reduction_factor": 2},  # so few trials are stopped by it, too
        "finalists": {"best": 2, "seeds": 2},
        "space": {
            "recipe.learning_rate": {"low": 0.01, "high": 0.3, "log": True},
            "recipe.mixup_alpha": {"low": 0.1, "high": 0.6},
            "recipe.scene_weight": {"low": 0.5, "high": 1.0},
        },
    },
}
TIMES = ("seconds", "clips_per_second")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("golden")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    experiment = {**EXPERIMENT, "corpus": {**EXPERIMENT["corpus"], "root": str(home / "corpus")}}
    (home / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    extension = str(Path(__file__).parents[1] / "extension")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (extension, os.environ.get("PYTHONPATH")))))
        yield home


def trials_of(storage: Path) -> dict[str, Any]:
    """All that the search has found, without times."""
    (search,) = (storage / "artifacts" / "search").iterdir()
    table = pq.read_table(search / "trials.parquet").to_pylist()
    rows = {
        file.parent.name: [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(search.glob("trials/*/rows.jsonl"))
    }
    for row in (*table, *(row for trial in rows.values() for row in trial)):
        for name in TIMES:
            row.pop(name, None)
    return {"table": table, "rows": rows, "best": json.loads((search / "best.json").read_text())}


def weights_of(storage: Path) -> dict[str, bytes]:
    (models,) = storage.glob("golden-*/models")
    return {name: (models / name).read_bytes() for name in ("student.safetensors", "student.tflite")}


class Run:
    """A run with so many workers, in a storage of its own that has the features of another."""

    def __init__(self, home: Path, workers: int, features_of: Path | None = None) -> None:
        self.home, self.storage = home, home / f"runs-{workers}"
        if features_of is not None:
            shutil.copytree(features_of / "shards", self.storage / "shards")
        self.machines = Machines(0, cpus=workers)  # a node for each would take 4 s of a core more
        self.start()

    def start(self) -> None:
        self.driver = Driver(self.home, str(self.storage), self.machines.address)

    def wait_for(self, sign: str) -> None:
        """Until a file that matches is in the storage."""
        deadline = time.monotonic() + 600
        while not list(self.storage.glob(sign)):
            assert self.driver.is_running(), self.driver.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"no {sign}"
            time.sleep(0.05)

    def finish(self) -> Path:
        self.driver.process.wait(timeout=900)
        assert self.driver.process.returncode == 0, self.driver.log.read_text()[-3000:]
        return self.storage

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        if self.driver.is_running():
            self.driver.end(graceful=False)
        self.machines.cluster.shutdown()


def test_the_search_is_a_function_of_settings_seed_and_data(home):
    with Run(home, workers=2) as run:
        first = run.finish()
    expected = trials_of(first)
    states = [row["state"] for row in expected["table"][:TRIALS]]
    assert states.count("stopped") >= 2 and states.count("finished") >= 4, states  # else nothing would be shown
    assert len(expected["table"]) in (TRIALS + 4, TRIALS + 6) and expected["table"][-1]["seed"] == 2

    with Run(home, workers=4, features_of=first) as run:
        run.wait_for("work/search/*/trials/student-06*/latest.safetensors")
        assert run.machines.lose_process(("Training",)), "no trial to kill"
        run.wait_for("work/search/*/trials/student-09*/latest.safetensors")
        run.driver.end(graceful=False)
        run.start()
        disturbed = run.finish()
    assert trials_of(disturbed) == expected
    assert weights_of(disturbed) == weights_of(first)

    with Run(home, workers=1, features_of=first) as run:
        run.wait_for("artifacts/search/*/stage.json")
    assert trials_of(run.storage) == expected
