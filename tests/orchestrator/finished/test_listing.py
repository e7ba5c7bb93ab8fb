"""The runs of a storage as a table."""

import json

import pytest

from orchestrator.errors import UserError
from orchestrator.finished.listing import COLUMNS, runs_of
from orchestrator.report.coverage import interval
from orchestrator.report.formats import span
from orchestrator.storage.store import Store
from tests.orchestrator.report.sample_runs import write_run as write_finished
from tests.orchestrator.watch.storages import stage, write_run


@pytest.fixture
def filled(store, elsewhere) -> Store:
    """A storage with a finished run, one under way, a failed and a damaged one, and folders of no run."""
    root = elsewhere.root
    done = write_finished(root / "tau-demo-1")
    write_run(root, state="finished", started="2026-11-28T05:00:00+00:00", updated="2026-11-28T06:02:03+00:00")
    (root / "demo-c274424e" / "status.json").rename(done / "status.json")
    write_run(root, state="running", stages=[stage("search", "running", 60, 1, 2, "best 0.5 / 1.2 (student-01)")])
    for name, text in (("failed-1", None), ("torn-1", "{")):
        (root / name).mkdir()
        (root / name / "status.json").write_text(text or failed(root))
    (root / "artifacts" / "search").mkdir(parents=True)
    (root / "artifacts" / "search" / "x.json").write_text("{}")
    elsewhere.push(root)
    return store


def failed(root) -> str:
    known = json.loads((root / "demo-c274424e" / "status.json").read_text())
    return json.dumps(
        known | {"state": "failed", "message": "the disk is full", "started": "2026-11-27T05:00:00+00:00"}
    )


def test_each_run_is_a_row_the_newest_first(filled, elsewhere):
    running, finished, failed_one, torn = runs_of(filled)
    assert len(COLUMNS) == len(running) == 8
    assert running[:2] == ("demo-c274424e", "running") and running[3] == "12m34s"
    assert running[4:] == ("-", "-", "-", "search 50 %, about 1m00s left: best 0.5 / 1.2 (student-01)")
    results = json.loads((elsewhere.root / "tau-demo-1" / "results.json").read_text())
    product = results["models"]["student"]["tflite"]
    assert finished == (
        *("tau-demo-1", "finished", "2026-11-28 05:00", "1h02m"),
        f"{product['accuracy']:.3f} ({span(interval(product['confusion']))})",
        f"{product['log_loss']:.3f}",
        f"{results['complexity']['file_bytes']['tflite']:,}",
        "",
    )
    assert failed_one[:3] == ("failed-1", "failed", "2026-11-27 05:00") and failed_one[7] == "the disk is full"
    assert torn[:2] == ("torn-1", "damaged") and "status.json is damaged" in torn[7]


def test_a_storage_without_runs_is_one_line(tmp_path):
    from orchestrator.cli.runs import list_runs

    assert runs_of(Store(tmp_path / "none")) == []
    assert list_runs.callback is not None
    with pytest.raises(UserError, match=r"holds no run; `stillhouse run EXPERIMENT --storage .*none` makes one"):
        list_runs.callback(str(tmp_path / "none"))
