"""Trials of a search that one process trains as one, on a real cluster; the process is killed in the middle."""

import io
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster
from rich.console import Console

from features.generated import CorpusSize, make_corpus
from orchestrator.config.loading import load
from orchestrator.monitor.view import View
from orchestrator.stages import search
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Context
from orchestrator.stages.cuts import load_cuts
from orchestrator.stages.recorder import Recorder
from orchestrator.storage.store import Store
from orchestrator.training.record import FINISHED
from orchestrator.training.task import train

pytestmark = pytest.mark.integration

TOGETHER, EPOCHS = 3, 20
RECIPE = {"cycle_ends": [1, EPOCHS], "crop_frames": 32, "batch_size": 8, "soft_weight": 0.0}
EXPERIMENT = {
    "name": "together",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "student": {"model": {"stem": 8, "rows": [8, 8]}, "recipe": RECIPE, "average": [EPOCHS]},
    "search": {
        "trials": 5,
        "cycle_ends": [1, EPOCHS],
        "finalists": 0,
        "stopping": "none",
        "sampler": "random",
        "together": TOGETHER,
        "space": {"recipe.mixup_alpha": {"low": 0.1, "high": 0.4}},
    },
    "plain": False,
}


def processes(cluster: Cluster, name: str) -> list[psutil.Process]:
    """The cluster's processes whose title has the name."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.NoSuchProcess):
            title, raylet = " ".join(process.info["cmdline"] or []), process.parent()
            if title.startswith("ray::") and name in title and raylet is not None:
                found += [process] if any(str(cluster.address) in word for word in raylet.cmdline()) else []
    return found


def test_trials_have_seats_at_one_process_and_go_on_when_it_is_lost(cluster, tmp_path: Path, monkeypatch):
    make_corpus(tmp_path / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=1, seconds=1.0), seed=5)
    (tmp_path / "together.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    config = load(str(tmp_path / "together.yaml"), [f"corpus.root={tmp_path / 'corpus'}"])
    store, at_once, show, killed = Store(tmp_path / "storage"), [], Recorder.show, list[int]()

    def seen(recorder: Recorder) -> None:
        show(recorder)
        at_once.append(len(recorder.done))
        if not killed and len(recorder.done) == TOGETHER and min(recorder.done.values()) > 1:
            benches = processes(cluster, "Bench")
            killed.extend(process.pid for process in benches)
            for process in benches:
                process.kill()

    monkeypatch.setattr(Recorder, "show", seen)
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    found = search.run(Context(config, store, View(Console(file=io.StringIO())), "run"), [data], [])
    assert found is not None and len(killed) == 1 and max(at_once) == TOGETHER
    rows = {trial.trial: found.rows(trial.trial) for trial in found.trials()}
    assert {trial.state for trial in found.trials()} == {FINISHED} and len(rows) == 5
    assert all([row["epoch"] for row in one] == list(range(1, EPOCHS + 1)) for one in rows.values())
    # Each learns what it learns alone: its first epoch shows that, before roundings have grown.
    for name, one in rows.items():
        first, _ = next(train(search.trial_task(config, found.training(name)), data.train, data.validation))
        assert one[0]["loss"] == pytest.approx(first["loss"], abs=0.01)
    assert not processes(cluster, "Bench")  # what it held is free for the next stage
