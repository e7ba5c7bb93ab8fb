"""A run that is to end after a stage ends there, and the next one goes on."""

import io

import pytest
from rich.console import Console

from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.monitor.schema import RunStatus
from orchestrator.monitor.view import View
from orchestrator.run import run, run_folder, stages_of
from orchestrator.storage.store import Store

GENERATE = "corpus.generate={cities: 1, train_locations: 2, train_segments: 1, test_segments: 1, seconds: 1.0}"


def test_after_the_corpus_nothing_more_is_done(tmp_path):
    text = io.StringIO()
    store = Store(tmp_path / "runs")
    config = load("demo", [f"corpus.root={tmp_path / 'corpus'}", GENERATE])
    folder = run(config, store, View(Console(file=text, width=200)), "corpus")
    said = text.getvalue().splitlines()
    assert said[-1] == "as asked, the run ends here, after corpus; without --until the same command goes on"
    assert RunStatus.read(folder / "status.json").state == "interrupted"
    assert not (folder / "results.json").exists() and not (store.root / "artifacts").exists()
    assert (tmp_path / "corpus" / "meta.csv").exists()


def test_a_finished_run_stays_finished(tmp_path):
    text = io.StringIO()
    store = Store(tmp_path / "runs")
    config = load("demo", [f"corpus.root={tmp_path / 'corpus'}", GENERATE])
    folder = run_folder(config, store)
    folder.mkdir(parents=True)
    for name in ("results.json", "status.json"):
        (folder / name).write_text("of the run that is finished")
    assert run(config, store, View(Console(file=text, width=200)), "features") == folder
    assert text.getvalue() == f"demo: {folder} is finished already, features with it\n"
    assert (folder / "status.json").read_text() == "of the run that is finished"
    assert not (tmp_path / "corpus").exists()


def test_a_stage_that_there_is_not_is_one_line(tmp_path):
    config = load("esc10-sizes", [f"corpus.root={tmp_path}"])
    assert "labels" not in stages_of(config)
    with pytest.raises(UserError, match="--until labels: this experiment has the stages features, search, final"):
        run(config, Store(tmp_path / "runs"), View(Console(file=io.StringIO())), "labels")
