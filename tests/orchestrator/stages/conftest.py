"""A small generated corpus, with two bad clips, and an experiment on it, for stages that run in this process."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from features.generated import CorpusSize, make_corpus
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.monitor.status import Status
from orchestrator.monitor.view import View
from orchestrator.run import about
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Context, Data
from orchestrator.stages.cuts import load_cuts
from orchestrator.storage.store import Store

RECIPE = {"cycle_ends": [1, 3], "crop_frames": 32, "batch_size": 8, "soft_weight": 0.0}
EXPERIMENT = {
    "name": "small",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "teachers": {},
    "student": {"recipe": RECIPE, "average": [1, 3]},
    "search": None,
    "plain": False,
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Ten scenes in two training and one test locations of one city; one training clip is empty, one is cut."""
    root = tmp_path_factory.mktemp("stages") / "corpus"
    make_corpus(root, CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    empty, short = sorted((root / "audio").glob("bus-*-a.wav"))[:2]
    empty.write_bytes(b"")
    short.write_bytes(short.read_bytes()[:1000])
    return root


@pytest.fixture
def small(corpus, tmp_path) -> Callable[..., Experiment]:
    """The experiment, with settings as of --set."""

    def experiment(*settings: str) -> Experiment:
        file = tmp_path / "small.yaml"
        file.write_text(yaml.safe_dump(EXPERIMENT))
        return load(str(file), [f"corpus.root={corpus}", *settings])

    return experiment


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "storage")


@pytest.fixture
def context_of(store) -> Callable[[Experiment, str], Context]:
    """A run of one stage, whose status a test can read, and whose terminal by `shown`."""

    def context(config: Experiment, stage: str) -> Context:
        view = View(Console(file=io.StringIO(), width=200))
        view.status = Status(store, store.root / "small-1", [stage], about(config))
        return Context(config, store, view, "small-1")

    return context


@pytest.fixture
def shown() -> Callable[[Context], list[str]]:
    """The lines of a run's terminal since they were last asked for."""

    def lines(context: Context) -> list[str]:
        file = context.view.console.file
        assert isinstance(file, io.StringIO)
        text = file.getvalue()
        file.truncate(0)
        file.seek(0)
        return text.splitlines()

    return lines


@pytest.fixture
def data(config, store) -> Data:
    """The splits of a test file's `config`."""
    return load_cuts(config, compute(config, store, parallel=False), store)[0]
