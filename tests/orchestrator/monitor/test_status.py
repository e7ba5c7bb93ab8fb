"""status.json says where a run is, and how it ended."""

import io
import threading

import pytest
from rich.console import Console

from orchestrator.monitor import status as module
from orchestrator.monitor.status import About, Status
from orchestrator.monitor.view import View
from orchestrator.storage.files import read_json
from orchestrator.storage.lease import Holder

ABOUT = About("demo", "demo-1", "log_loss", False)


@pytest.fixture
def status(store):
    folder = store.root / "demo-1"
    folder.mkdir(parents=True)
    return Status(store, folder, ["features", "teachers", "labels"], ABOUT)


def test_stages_are_told_as_they_go(status, store, elsewhere):
    view = View(Console(file=io.StringIO()))
    view.status = status
    with status:
        view.reused("features", "all of them")
        with view.stage("teachers") as bar:
            bar.made_in(store.root / "work" / "teachers" / "abc")
            bar.update(3, 12, "1 of 2 done")
            status.write()
            elsewhere.pull(elsewhere.root / "demo-1")
            seen = read_json(elsewhere.root / "demo-1" / "status.json")
    stages = {stage["name"]: stage for stage in seen["stages"]}
    assert seen["state"] == "running" and seen["run"] == "demo-1" and seen["message"] is None
    assert [stage["state"] for stage in stages.values()] == ["reused", "running", "waiting"]
    teachers = stages["teachers"]
    assert (teachers["done"], teachers["total"], teachers["detail"]) == (3, 12, "1 of 2 done")
    assert teachers["folders"] == ["work/teachers/abc"]
    last = read_json(status.file)
    assert last["state"] == "finished" and last["stages"][1]["state"] == "finished"


def test_what_an_earlier_start_has_done_stays_known_until_this_one_comes_that_far(store, status):
    with status:
        status.of("teachers").folders = [store.root / "work" / "teachers" / "abc"]
    again = Status(store, status.file.parent, ["features", "teachers"], ABOUT)
    with pytest.raises(OSError), again:
        raise OSError("the corpus is not mounted")
    told = read_json(status.file)
    assert (told["state"], told["stages"][1]["folders"]) == ("failed", ["work/teachers/abc"])


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [(KeyboardInterrupt(), "interrupted", None), (ValueError("no\nroom"), "failed", "no room")],
)
def test_how_a_run_ended_is_told(status, error, state, message):
    with pytest.raises(type(error)), status, status.of("labels").running():
        raise error
    told = read_json(status.file)
    assert (told["state"], told["message"], told["stages"][2]["state"]) == (state, message, state)


def test_a_run_that_does_nothing_new_still_shows_that_it_lives(status, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.02)
    monkeypatch.setattr(module, "EVERY_REMOTE", 0.02)
    monkeypatch.setattr(module, "SIGN_OF_LIFE", 0.05)
    written, enough = [], threading.Event()
    original = status.write

    def write() -> None:
        original()
        written.append(1)
        if len(written) >= 4:
            enough.set()

    monkeypatch.setattr(status, "write", write)
    with status:
        assert enough.wait(120.0)


def test_a_stage_that_another_run_makes_shows_whose_it_is_and_how_far(status):
    printed = io.StringIO()
    view = View(Console(file=printed, width=200))
    view.status = status
    with status, view.stage("labels") as bar:
        for done in (0.25, 0.5):
            bar.wait(Holder("job raysubmit_7", "na", "gpu-1", "2026-11-28T05:00:00+00:00", done, "17 of 40 clips"))
        stage = status.of("labels")
        assert (stage.done, stage.total) == (0.5, 1.0)
        assert stage.detail == "made by job raysubmit_7 on node gpu-1, 50 %  17 of 40 clips"
        assert bar.so_far() == (0.5, stage.detail)
    lines = [line.strip() for line in printed.getvalue().splitlines()]
    assert lines[1] == "labels: waiting; made by job raysubmit_7 on node gpu-1, 25 %"
    assert len(lines) == 3 and lines[2].endswith("made by job raysubmit_7 on node gpu-1")
