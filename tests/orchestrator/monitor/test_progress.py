"""How far a run is, in one line, from its status as the storage has it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.monitor.progress import in_short, is_gone, shown, status_of
from orchestrator.monitor.schema import RunStatus
from orchestrator.storage.store import Store
from tests.orchestrator.watch.storages import RUN, stage, write_run


def status(**changes: Any) -> RunStatus:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known = {"schema": 2, "name": "demo", "run": "demo-1", "select_by": "log_loss", "generated": True, "host": "vm"}
    times = {"started": now, "updated": now, "state": "running", "message": None, "best": None}
    return RunStatus.model_validate({**known, **times, "stages": [], **changes})


SEARCH = "12 of 24 done, 2 running, best 0.581 / 1.203 (student-07)"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"stages": [stage("features", "finished", 9, 1, 1), stage("search", "running", 300, 25, 100, SEARCH)]},
            f"search 25 %, about 15m00s left: {SEARCH}",
        ),
        ({"stages": [stage("search", "running", 0, 0, 0)]}, "search 0 %"),
        ({"stages": [stage("labels", "running", 3, 5, 5, "writing")]}, "labels 100 %: writing"),
        ({"stages": [stage("features", "finished")]}, "between two stages"),
        ({"state": "failed", "message": "the disk is full"}, "failed: the disk is full"),
        ({"state": "finished", "outcome": "accuracy +4.2"}, "finished: accuracy +4.2"),
        ({"state": "interrupted"}, "interrupted"),
    ],
)
def test_one_line(changes, expected):
    assert in_short(status(**changes)) == expected


@pytest.mark.parametrize(
    ("age", "state", "gone"), [(25, "running", False), (40, "running", True), (40, "failed", False)]
)
def test_a_driver_that_is_silent_is_gone(age, state, gone):
    then = (datetime.now(UTC) - timedelta(seconds=age)).isoformat(timespec="seconds")
    found = status(updated=then, state=state, stages=[stage("search", "running", 60, 1, 2)])
    assert is_gone(found) is gone
    assert in_short(found).startswith("the driver is gone, at: search 50 %") is gone


def test_it_is_read_from_the_storage_and_not_from_the_mirror(store, elsewhere):
    assert status_of(store, RUN) is None
    write_run(elsewhere.root, message="theirs")
    elsewhere.push(elsewhere.root)
    found = status_of(store, RUN)
    assert found is not None and found.message == "theirs"
    assert not store.is_remote or not store.root.exists()


def test_a_status_that_is_damaged_is_one_line(tmp_path):
    (write_run(tmp_path) / "status.json").write_text("{")
    with pytest.raises(UserError, match=r"status.json is damaged"):
        status_of(Store(tmp_path), RUN)


def test_what_cannot_be_seen_from_here_is_a_dash_and_keeps_nobody_waiting(tmp_path, s3, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "mirror"))
    write_run(tmp_path, stages=[stage("search", "running", 60, 1, 2)])
    remote = Store(s3.format(tmp_path.name))
    remote.remote.put({f"{RUN}/status.json": tmp_path / RUN / "status.json"})
    write_run(tmp_path / "odd", updated="2026-11-30T05:00:00")
    places = {
        "a time without a zone": (str(tmp_path / "odd"), RUN),
        "here": (str(tmp_path), RUN),
        "s3": (remote.uri, RUN),
        "another machine's": ("/not/here", RUN),
        "no run": (str(tmp_path), "other"),
        "no server": ("s3://bucket/runs?endpoint_override=127.0.0.1:1&scheme=http", RUN),
        "odd": ("gs://x", RUN),
    }
    far = "search 50 %, about 1m00s left"
    assert shown(places, 60.0) == {**dict.fromkeys(places, "-"), "here": far, "s3": far}
    assert shown({"here": (str(tmp_path), RUN)}, 0.0).keys() == {"here"}
