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
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "")  # restored afterwards
        server = Storage()
        yield server
        server.server.stop()


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path) -> str:
    """A folder, whose runs join one cluster, or S3, with a cluster for each run, which knows the credentials."""
    if request.param == "folder":
        request.getfixturevalue("joined")
        return str(tmp_path / "storage")
    return request.getfixturevalue("server").uri(tmp_path.name)


def run_at_once(home: Path, tmp_path: Path, storage: str, *experiments: list[str]) -> list[str]:
    """Start all of them, each with a mirror of its own; what each has printed."""
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


def test_experiments_and_seeds_of_one_team(home, tmp_path, storage):
    """Systems 2 and 4 share features, teacher and labels; another seed shares the features alone."""
    texts = run_at_once(home, tmp_path, storage, ["dcase2021-2"], ["dcase2021-4"], ["dcase2021-2", "--set", "seed=1"])
    store, runs = runs_of(storage, tmp_path)
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    assert sorted((one["name"], one["seed"]) for one in results) == [
        ("dcase2021-2", 0),
        ("dcase2021-2", 1),
        ("dcase2021-4", 0),
    ]
    artifacts = {(one["name"], one["seed"]): one["artifacts"] for one in results}
    two, other_seed, four = (artifacts[key] for key in sorted(artifacts))
    for name in ("features", "teacher-attention", "labels"):
        assert two[name] == four[name]
    assert len({one["final"] for one in (two, other_seed, four)}) == 3
    assert trainings(runs) == {"teacher-attention": 2, "final-distilled": 3}
    printed = "\n".join(texts)
    assert len(re.findall(r"soft labels of \d+ clips", printed)) == 2  # one for each seed
    # Who waits for what depends on which is faster; that it does is held by the tests of leases.
    waits = re.findall(r"  (\w+): waiting; made by process \d+ on node \S+, \d+ %", printed)
    assert set(waits) <= {"features", "teachers", "labels"}
    assert [name for name in store.sizes() if name.startswith("work/")] == []
