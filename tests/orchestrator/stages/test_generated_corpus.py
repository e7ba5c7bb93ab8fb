"""A generated corpus is known as one wherever it is used, and is never mistaken for another."""

import io

import pytest
from rich.console import Console

from features.generated import CorpusSize, generated_from, make_corpus
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.monitor.view import View
from orchestrator.run import about
from orchestrator.stages.context import Context
from orchestrator.stages.corpus import run_corpus
from orchestrator.storage.store import Store

SIZE = "{cities: 1, train_locations: 1, test_locations: 1, train_segments: 1, seconds: 1.0}"


def context(home, *settings: str) -> Context:
    config = load("demo", [f"corpus.root={home}/corpus", f"corpus.generate={SIZE}", *settings])
    return Context(config, Store(home / "runs"), View(Console(file=io.StringIO())), "demo-1")


def test_it_says_what_it_was_generated_from(tmp_path):
    run_corpus(context(tmp_path, "seed=3"))
    found = generated_from(tmp_path / "corpus")
    assert found is not None and found["seed"] == 3
    assert CorpusSize(**found["size"]) == CorpusSize(1, 1, 1, 1, seconds=1.0)
    assert generated_from(tmp_path) is None


def test_the_same_again_is_used_and_another_is_refused(tmp_path):
    run_corpus(context(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus").rglob("*")}
    run_corpus(context(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus").rglob("*")} == before
    for other in ("corpus.generate.cities=2", "seed=1"):
        with pytest.raises(UserError, match="was not generated with these corpus.generate and seed: remove it"):
            run_corpus(context(tmp_path, other))


def test_recordings_are_generated_whoever_made_them(tmp_path):
    make_corpus(tmp_path / "corpus", CorpusSize(1, 1, 1, 1, seconds=1.0))
    assert about(context(tmp_path, "corpus.generate=null").config).generated is True
    assert about(load("dcase2021", [f"corpus.root={tmp_path}"])).generated is False
