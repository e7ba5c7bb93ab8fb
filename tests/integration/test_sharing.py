"""Runs at once on one storage: what they share is made once, whoever comes first, and all of them finish."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.machines import Storage, observed
from features.generated import CorpusSize, make_corpus
from orchestrator.storage.store import Store
from tests.integration.test_systems import overrides

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("sharing")
    make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    return home


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "STILLHOUSE_MIRROR"):
            patch.setenv(name, "")  # restored afterwards
        server = Storage()
        yield server
        server.server.stop()


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path) -> str:
    if request.param == "folder":
        return str(tmp_path / "storage")
    return request.getfixturevalue("server").uri(tmp_path.name)


def run_at_once(home: Path, tmp_path: Path, storage: str, *experiments: list[str]) -> list[str]:
    """Start all of them, each on a cluster and with a mirror of its own; what each has printed."""
    command = [sys.executable, "-m", "orchestrator", "run"]
    logs = [tmp_path / f"log-{number}.txt" for number in range(len(experiments))]
    processes = []
    for experiment, log in zip(experiments, logs, strict=True):
        words = [*command, *experiment, *overrides(home / "corpus"), "--storage", storage]
        environment = {**os.environ, "STILLHOUSE_MIRROR": str(tmp_path / f"mirror-{log.stem}")}
        with log.open("w") as file:
            processes.append(subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment))
    codes = [process.wait(timeout=600) for process in processes]
    texts = [log.read_text() for log in logs]
    assert codes == [0] * len(codes), "\n".join(texts)
    return texts


def runs_of(storage: str, tmp_path: Path) -> tuple[Store, list[Path]]:
    store = observed(storage, tmp_path)
    store.pull(store.root)
    return store, [file.parent for file in sorted(store.root.glob("*/results.json"))]


def trainings(runs: list[Path]) -> Counter[str]:
    """Stage and name of every training, from the curves that whoever trains writes into its run's folder."""
    return Counter(file.parent.name for run in runs for file in run.glob("tensorboard/*/*/events*"))


def test_two_experiments_that_share_features_teacher_and_labels(home, tmp_path, storage):
    texts = run_at_once(home, tmp_path, storage, ["dcase2021-2"], ["dcase2021-4"])
    store, runs = runs_of(storage, tmp_path)
    assert [run.name.rpartition("-")[0] for run in runs] == ["dcase2021-2", "dcase2021-4"]
    artifacts = [json.loads((run / "results.json").read_text())["artifacts"] for run in runs]
    for name in ("features", "teacher-attention", "labels"):
        assert artifacts[0][name] == artifacts[1][name]
    assert artifacts[0]["final"] != artifacts[1]["final"]
    count = trainings(runs)
    assert count["teacher-attention"] == 1, count
    assert count["final-distilled"] == 2
    printed = "\n".join(texts)
    assert printed.count("soft labels of 40 clips") == 1
    waits = re.findall(r"  (\w+): waiting; made by process \d+ on node \S+, \d+ %", printed)
    assert waits and set(waits) <= {"features", "teachers", "labels"}
    assert [name for name in store.sizes() if name.startswith("work/")] == []


def test_two_seeds_of_one_experiment(home, tmp_path, storage):
    texts = run_at_once(home, tmp_path, storage, ["dcase2021-2"], ["dcase2021-2", "--set", "seed=1"])
    _, runs = runs_of(storage, tmp_path)
    assert len(runs) == 2
    assert trainings(runs) == {"teacher-attention": 2, "final-distilled": 2}
    assert "features: waiting; made by process" in "\n".join(texts)
