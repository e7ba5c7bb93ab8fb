"""What stages write of an artifact, and when a restart is announced."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.monitor.status import Status
from orchestrator.monitor.view import View
from orchestrator.run import about
from orchestrator.stages import features, final, labels, search, teachers
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Context, Data, announce_restart, published, record, seconds_of
from orchestrator.stages.cuts import load_cuts
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
    announce_restart(context, "search", "new")
    left.rmdir()
    announce_restart(context, "search", "new")
    line = "  search: code, libraries or recordings have changed; work in progress begins anew\n"
    assert text.getvalue() == (line if announced else "")


class Begun(Exception):
    """What a stage is broken off with where it begins."""


def begin(*_: object) -> None:
    raise Begun


TEACHERS = "teachers={one: {model: {width: 2}, recipe: {cycle_ends: [1], crop_frames: 32}, ensemble: [1]}}"
RUNS: dict[str, Callable[[Context, Data], object]] = {
    "features": lambda context, data: features.run(context),
    "teachers": lambda context, data: teachers.run(context, [data]),
    "labels": lambda context, data: labels.run(context, data, {"": {"one": Path("one-key")}}),
    "search": lambda context, data: search.run(context, [data], []),
    "final": lambda context, data: final.run(context, data, {}, None, None),
}


@pytest.mark.parametrize("stage", RUNS)
def test_every_stage_announces_that_it_begins_anew(small, store, monkeypatch, stage):
    config = small(TEACHERS, "search={trials: 2, cycle_ends: [1, 2]}", "plain=true")
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    text = io.StringIO()
    view = View(Console(file=text, width=200))
    view.status = Status(store, store.root / "small-1", list(RUNS), about(config))
    old = store.root / "work" / stage / "old"
    old.mkdir(parents=True)
    view.of(stage).folders = [old]
    monkeypatch.setattr(View, "stage", begin)
    with pytest.raises(Begun):
        RUNS[stage](Context(config, store, view, "small-1"), data)
    line = f"  {stage}: code, libraries or recordings have changed; work in progress begins anew\n"
    assert text.getvalue() == line


@pytest.mark.parametrize("stage", ["labels", "search", "final"])
def test_work_that_is_resumed_does_not_begin_anew(small, store, monkeypatch, stage):
    config = small(TEACHERS, "search={trials: 2, cycle_ends: [1, 2]}", "plain=true")
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    text, looked = io.StringIO(), list[str]()
    view = View(Console(file=text, width=200))
    view.status = Status(store, store.root / "small-1", list(RUNS), about(config))
    monkeypatch.setattr(Store, "finished", lambda _, kind, key: looked.append(key))
    monkeypatch.setattr(View, "stage", begin)
    for _ in range(2):
        view.of(stage).folders = [store.root / "work" / stage / key for key in looked]
        for folder in view.of(stage).folders:
            folder.mkdir(parents=True)
        with pytest.raises(Begun):
            RUNS[stage](Context(config, store, view, "small-1"), data)
    assert text.getvalue() == "" and len(looked) == 2 and len(set(looked)) == 1
