"""A worker that joins the cluster in the middle of a stage is used in it."""

import io
import signal
from pathlib import Path

import pytest
import yaml
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

pytestmark = pytest.mark.integration

RECIPE = {"cycle_ends": [1, 60], "crop_frames": 32, "batch_size": 8, "soft_weight": 0.0}
EXPERIMENT = {
    "name": "joining",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "student": {"recipe": RECIPE, "average": [1, 60]},
    "search": {
        "trials": 60,  # of which the first few end before the worker is up
        "cycle_ends": [1, 60],
        "finalists": 0,
        "stopping": "none",
        "sampler": "random",
        "space": {"recipe.mixup_alpha": {"low": 0.1, "high": 0.4}},
    },
    "plain": False,
}


def test_a_worker_that_joins_in_the_middle_of_a_stage_is_used_in_it(cluster, tmp_path: Path, monkeypatch):
    make_corpus(tmp_path / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=1, seconds=1.0), seed=5)
    (tmp_path / "joining.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    config = load(str(tmp_path / "joining.yaml"), [f"corpus.root={tmp_path / 'corpus'}"])
    store, at_once, show = Store(tmp_path / "storage"), [], Recorder.show

    def joined(recorder: Recorder) -> None:
        show(recorder)
        at_once.append(len(recorder.done))
        if recorder.done and len(cluster.list_all_nodes()) == 1:
            cluster.add_node(num_cpus=1)
        if at_once[-1] == 2 and at_once.count(2) == 1:  # a second Ctrl-C ends everything at once
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Recorder, "show", joined)
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    with pytest.raises(KeyboardInterrupt):
        search.run(Context(config, store, View(Console(file=io.StringIO())), "run"), [data], [])
    assert max(at_once) == 2, at_once
