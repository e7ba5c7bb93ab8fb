"""A generated corpus is known as one wherever it is used, and is never mistaken for another."""

import io

import pytest
from rich.console import Console

from features.generated import CorpusSize, generated_from, make_corpus
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.monitor import view as view_module
from orchestrator.monitor.view import View
from orchestrator.run import about
from orchestrator.stages.context import Context
from orchestrator.stages.corpus import run_corpus
from orchestrator.storage.store import Store

SIZE = "{cities: 1, train_locations: 1, test_locations: 1, train_segments: 1, seconds: 1.0}"


def context(home, *settings: str, text: io.StringIO | None = None) -> Context:
    config = load("demo", [f"corpus.root={home}/corpus", f"corpus.generate={SIZE}", *settings])
    return Context(config, Store(home / "runs"), View(Console(file=text or io.StringIO(), width=400)), "demo-1")


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


def test_what_is_generated_is_shown_and_so_is_what_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(view_module, "PLAIN_INTERVAL", -1.0)
    text = io.StringIO()
    for _ in range(2):
        run_corpus(context(tmp_path, text=text))
    lines, count = text.getvalue().splitlines(), len(list((tmp_path / "corpus" / "audio").iterdir()))
    assert lines[0] == "> corpus" and lines[-1] == f"= corpus     reused  {tmp_path / 'corpus'}"
    assert len(lines[1:-2]) == count - 1 and all(line.startswith("  corpus: ") for line in lines[1:-2])
    assert lines[-2].startswith("+ corpus ")
    assert lines[-2].endswith(f"s  {count} generated recordings in {tmp_path / 'corpus'}")


def test_recordings_are_generated_whoever_made_them(tmp_path):
    make_corpus(tmp_path / "corpus", CorpusSize(1, 1, 1, 1, seconds=1.0))
    assert about(context(tmp_path, "corpus.generate=null").config).generated is True
    assert about(load("dcase2021", [f"corpus.root={tmp_path}"])).generated is False
