"""What stages write of an artifact, and when a restart is announced."""

import io
import json

import pytest
from rich.console import Console

from orchestrator.monitor.status import Status
from orchestrator.monitor.view import View
from orchestrator.run import about
from orchestrator.stages.context import Context, announce_restart, published, record, seconds_of
from orchestrator.storage.store import Store
from orchestrator.versions import versions


def test_stage_json_holds_seconds_facts_and_versions(tmp_path):
    store = Store(tmp_path)
    with store.publish("labels", "k") as target:
        record(target, 12.3456, teachers=["one"])
    folder = published(store, "labels", "k")
    assert folder == tmp_path / "artifacts" / "labels" / "k"
    about = json.loads((folder / "stage.json").read_text())
    assert about.pop("seal")
    assert about == {
        "seconds": 12.35,
        "teachers": ["one"],
        "versions": versions(),
        "files": {},
    }
    assert seconds_of(folder) == 12.35
    with pytest.raises(AssertionError, match="labels other was not published"):
        published(store, "labels", "other")


@pytest.mark.parametrize(
    ("kind", "key", "announced"),
    [("search", "old", True), ("search", "new", False), ("final", "old", False)],
)
def test_a_restart_is_announced_where_work_of_another_key_lies(small, tmp_path, kind, key, announced):
    store, text = Store(tmp_path / "storage"), io.StringIO()
    view = View(Console(file=text, width=200))
    view.status = Status(store, store.root / "small-1", ["search"], about(small()))
    context = Context(small(), store, view, "small-1")
    left = store.root / "work" / kind / key
    left.mkdir(parents=True)
    view.of("search").folders = [left]
    announce_restart(context, "search", "search", "new")
    left.rmdir()
    announce_restart(context, "search", "search", "new")
    line = "  search: code, libraries or recordings have changed; work in progress begins anew\n"
    assert text.getvalue() == (line if announced else "")
