"""What a run does to this process, and what it says at its end."""

import io
import logging

import pytest
from rich.console import Console

from features.corpus import CorpusError
from orchestrator.config.loading import load
from orchestrator.monitor.view import View
from orchestrator.run import Artifacts, log_in, run, run_folder
from orchestrator.stages.context import record
from orchestrator.storage.store import Store


@pytest.mark.parametrize("complaining", [True, False])
def test_logging_is_left_as_it_was(tmp_path, monkeypatch, complaining):
    monkeypatch.setattr(logging, "raiseExceptions", complaining)
    handlers = list(logging.getLogger("stillhouse").handlers)
    with pytest.raises(KeyboardInterrupt), log_in(Store(tmp_path), tmp_path):
        assert logging.raiseExceptions is False
        raise KeyboardInterrupt
    assert logging.raiseExceptions is complaining
    assert logging.getLogger("stillhouse").handlers == handlers


def test_a_run_without_teachers_has_no_time_of_theirs(tmp_path):
    for name, seconds in (("features", 3.0), ("final", 4.0), ("teacher", 9.0)):
        (tmp_path / name).mkdir()
        record(tmp_path / name, seconds)
    others = {name: tmp_path / name for name in ("features", "final")}
    made = Artifacts(None, None, None, {}, others)  # pyright: ignore[reportArgumentType] - its data are not read
    assert made.seconds == {"features": 3.0, "final": 4.0}
    taught = Artifacts(None, None, None, {"first": tmp_path / "teacher"}, others)  # pyright: ignore[reportArgumentType]
    assert taught.seconds == {"features": 3.0, "teachers": 9.0, "final": 4.0}


def test_a_start_that_fails_at_once_leaves_no_folder(tmp_path, store):
    """But what an earlier start has left stays."""
    config = load("esc10", [f"corpus.root={tmp_path / 'nowhere'}"])
    folder = run_folder(config, store)
    for earlier in (False, True):
        if earlier:
            folder.mkdir()
            (folder / "config.yaml").write_text("of an earlier start")
            store.push(folder / "config.yaml")
        with pytest.raises(CorpusError, match="nowhere"):
            run(config, store, View(Console(file=io.StringIO())))
        assert folder.exists() == store.has(folder / "status.json") == earlier
        assert store.has(folder) == earlier


def test_nor_does_one_that_fails_after_the_corpus_was_made(tmp_path, store):
    generate = "corpus.generate={cities: 1, train_locations: 2, train_segments: 1, test_segments: 1, seconds: 1.0}"
    root = tmp_path / "corpus"
    config = load("demo", [f"corpus.root={root}", generate, "validation.leave_out_devices=[z]"])
    for _ in range(2):  # the second time the corpus is reused
        with pytest.raises(CorpusError, match="no training clip is of 'z'"):
            run(config, store, View(Console(file=io.StringIO())))
        assert (root / "meta.csv").exists()
        assert not run_folder(config, store).exists() and not store.has(run_folder(config, store))
