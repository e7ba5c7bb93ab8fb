"""What a storage may lose."""

import threading
from contextlib import ExitStack

import pytest

from orchestrator.errors import UserError
from orchestrator.storage import lease
from orchestrator.storage.clean import clean, look
from orchestrator.storage.files import write_json
from orchestrator.storage.lease import leased
from orchestrator.storage.runs import RESULTS, STATUS, locate
from orchestrator.storage.store import LEASE, STAGE, Store
from orchestrator.storage.work import cleaning, running


def artifact(store: Store, kind: str, key: str, **files: object) -> None:
    with store.publish(kind, key) as folder:
        for name, value in files.items():
            write_json(folder / f"{name}.json", value)
        write_json(folder / STAGE, {})


@pytest.fixture
def filled(store) -> Store:
    """A finished run with what it is made of, and what nobody needs."""
    artifact(store, "features", "used", manifest={"shards": ["a.parquet"]})
    artifact(store, "teacher", "used")
    artifact(store, "teacher", "unused")
    for name in ("shards/a.parquet", "shards/b.parquet", "work/search/abc/rows", "demo-1/log.txt"):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_bytes(bytes(1000))
        store.push(store.root / name)
    used = {"features": "artifacts/features/used", "teacher-one": "artifacts/teacher/used"}
    write_json(store.root / "demo-1" / RESULTS, {"artifacts": used})
    store.push(store.root / "demo-1")
    return store


def test_what_a_finished_run_needs_is_kept(filled, elsewhere):
    lines: list[str] = []
    clean(filled, lambda question: False, lines.append)
    assert filled.has(filled.root / "shards" / "b.parquet")
    clean(filled, lambda question: True, lines.append)
    named = [line.split()[-1] for line in lines[:3]]
    assert named == ["artifacts/teacher/unused", "shards/b.parquet", "work/search/abc"]
    for name in ("shards/a.parquet", "artifacts/features/used/stage.json", "demo-1/log.txt"):
        assert elsewhere.has(elsewhere.root / name)
    for name in ("shards/b.parquet", "artifacts/teacher/unused", "work/search/abc"):
        assert not elsewhere.has(elsewhere.root / name)
    clean(filled, lambda question: True, lines.append)
    assert lines[-1].endswith("nothing to remove")


def test_what_a_run_has_done_that_is_to_be_gone_on_with_is_kept_until_it_is_given_up(filled):
    made = [["work/search/abc"], ["artifacts/teacher/unused"]]
    stages = [{"name": "search", "state": "running", "folders": paths} for paths in made]
    write_json(filled.root / "demo-2" / STATUS, {"state": "failed", "stages": stages})
    filled.push(filled.root / "demo-2")
    (filled.root / "probe-1").write_bytes(b"probe")
    (filled.root / "probe-2").mkdir()  # of an experiment that is called probe
    (filled.root / "probe-2" / "log.txt").write_bytes(b"")
    for name in ("probe-1", "probe-2"):
        filled.push(filled.root / name)
    assert set(look(filled).unneeded) == {"probe-1"}
    clean(filled, lambda question: True, lambda line: None)
    assert filled.has(filled.root / "work" / "search" / "abc" / "rows") and not filled.has(filled.root / "probe-1")
    given_up = {"artifacts/teacher/unused", "shards/b.parquet", "work/search/abc"}
    assert set(look(filled, unfinished=True).unneeded) == given_up


def test_copies_of_a_remote_storage_are_removed_too(filled):
    before = set(filled.sizes())
    clean(filled, lambda question: "copies" in question, lambda line: None)
    assert filled.root.exists() is not filled.is_remote
    filled.pull(filled.root)
    assert set(filled.sizes()) == before


def test_nothing_is_removed_unasked(filled):
    before, asked = set(filled.sizes()), list[str]()

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    clean(filled, refuse, lambda line: None)
    assert len(asked) == (2 if filled.is_remote else 1)
    assert filled.root.exists() and set(filled.sizes()) == before


def test_of_what_goes_all_files_count_and_a_run_s_own_stay(filled):
    for name, size in (("work/search/abc/more", 500), ("demo-1/trials.parquet", 10), ("shards/notes.txt", 10)):
        (filled.root / name).write_bytes(bytes(size))
        filled.push(filled.root / name)
    teacher = filled.sizes()["artifacts/teacher/unused/stage.json"]
    assert look(filled).unneeded == {
        "artifacts/teacher/unused": teacher,
        "shards/b.parquet": 1000,
        "work/search/abc": 1500,
    }


def test_a_table_of_several_runs_and_what_a_finished_run_had_begun_need_nothing(filled):
    write_json(filled.root / "table-1" / RESULTS, {"systems": None})
    filled.push(filled.root / "table-1")
    status_of(filled, "demo-1", ("search", "finished", ["work/search/abc"]))
    assert set(look(filled).unneeded) == {"artifacts/teacher/unused", "shards/b.parquet", "work/search/abc"}


@pytest.mark.usefixtures("fast")
def test_temporary_files_of_killed_runs_go_unless_a_run_is_alive(tmp_path):
    store = Store(tmp_path)
    left = {"preflight-1", "probe-1", ".top.json.abc.tmp", "demo-1/.status.json.abc.tmp"}
    for name in (*left, "demo-1/notes.tmp", "demo-1/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert set(look(store).unneeded) == left
    with leased(store, store.root / "demo-2", "the run demo-2"):
        assert look(store, unfinished=True).unneeded == {}


def test_links_go_and_what_they_lead_to_stays(tmp_path):
    """A link to a folder, to a file, to nothing and to itself: in what is removed, and in its stead."""
    store, elsewhere = Store(tmp_path / "storage"), tmp_path / "elsewhere"
    (elsewhere / "folder").mkdir(parents=True)
    (elsewhere / "folder" / "stage.json").write_text("{}")
    old, kind = store.root / "artifacts/teacher/old", store.root / "artifacts/labels"
    for place in (old, kind):
        place.mkdir(parents=True)
    (old / "stage.json").write_text("{}")
    for place in (old, kind):
        for name in ("folder", "folder/stage.json", "nothing"):
            (place / name.replace("/", "-")).symlink_to(elsewhere / name)
        (place / "itself").symlink_to(place / "itself")
    lines: list[str] = []
    clean(store, lambda question: True, lines.append)
    assert not old.exists() and lines[-1].startswith("removed")
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["folder", "stage.json"]
    store.remove(kind / "folder")
    store.remove(kind / "itself")
    assert sorted(path.name for path in kind.iterdir()) == ["folder-stage.json", "nothing"]
    assert (elsewhere / "folder" / "stage.json").exists()


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "LOOK", 0.05)


def status_of(store: Store, run: str, *stages: tuple[str, str, list[str]]) -> None:
    """Status of a run: name, state and folders of each stage."""
    rows = [{"name": name, "state": state, "folders": folders} for name, state, folders in stages]
    write_json(store.root / run / STATUS, {"state": "running", "stages": rows})
    store.push(store.root / run / STATUS)


@pytest.mark.usefixtures("fast")
def test_beside_a_run_that_is_alive_only_what_it_cannot_need_is_removed(filled, elsewhere):
    """It has features and teachers, of its own choice; labels it will look for, and the search's work it may go on."""
    artifact(filled, "features", "live", manifest={"shards": ["c.parquet"]})
    artifact(filled, "features", "unused", manifest={"shards": ["b.parquet"]})
    artifact(filled, "teacher", "live")
    artifact(filled, "labels", "unused")
    for name in ("shards/c.parquet", "work/teachers/old/rows", "work/teacher/other/rows"):
        (filled.root / name).parent.mkdir(parents=True, exist_ok=True)
        (filled.root / name).write_bytes(bytes(10))
        filled.push(filled.root / name)
    stages = [("features", "finished", ["artifacts/features/live"]), ("teachers", "reused", ["artifacts/teacher/live"])]
    status_of(filled, "demo-2", *stages, ("labels", "running", []), ("search", "waiting", []), ("final", "waiting", []))
    lines: list[str] = []
    with (
        leased(filled, filled.root / "demo-2", "the run demo-2"),
        leased(filled, filled.root / "work" / "teacher" / "other", "teacher"),
    ):
        clean(elsewhere, lambda question: True, lines.append, unfinished=True)
    gone = {"artifacts/features/unused", "artifacts/teacher/unused", "shards/b.parquet", "work/teachers/old"}
    assert [line.split()[-1] for line in lines[2:-1] if "/" in line.split()[-1]] == sorted(gone)
    assert lines[0].startswith("demo-2 is in use by process ")
    left = set(elsewhere.sizes())
    for name in ("artifacts/features/live/stage.json", "shards/c.parquet", "work/search/abc/rows"):
        assert name in left
    for name in ("artifacts/labels/unused/stage.json", "work/teacher/other/rows", "artifacts/teacher/live/stage.json"):
        assert name in left
    assert not [name for name in left if name.startswith(tuple(gone))]


@pytest.mark.usefixtures("fast")
def test_of_a_run_that_has_just_begun_nothing_is_removed(filled):
    with leased(filled, filled.root / "demo-2", "the run demo-2"):
        assert look(filled, unfinished=True).unneeded == {}


@pytest.mark.usefixtures("fast")
def test_a_run_that_begins_while_the_question_stands_keeps_what_it_needs(filled):
    begun = ExitStack()

    def confirm(question: str) -> bool:
        if "no run needs" in question:
            begun.enter_context(leased(filled, filled.root / "demo-2", "the run demo-2"))
        return True

    lines: list[str] = []
    with begun:
        clean(filled, confirm, lines.append)
    assert lines[3] == "removed 0 bytes"
    assert filled.root.exists() and filled.is_remote is (len(lines) == 5)
    assert lines[4:] in ([], ["this machine's copies stay: a run that is alive may have newer files there"])
    assert filled.has(filled.root / "work" / "search" / "abc" / "rows")


@pytest.mark.usefixtures("fast")
def test_a_run_that_begins_while_things_are_removed_waits_for_the_end(filled, elsewhere):
    events: list[str] = []

    def begin() -> None:
        with running(elsewhere, elsewhere.root / "demo-2"):
            events.append("begun")

    run = threading.Thread(target=begin)
    with cleaning(filled):
        run.start()
        while not filled.has(filled.root / "demo-2" / LEASE):  # from here on it waits for us
            assert run.is_alive()
        found = look(filled)
        events.append("removed")
    run.join(120)
    assert list(found.living) == ["demo-2"] and found.unneeded == {}
    assert events == ["removed", "begun"]


@pytest.mark.usefixtures("elsewhere")
def test_a_run_is_found_by_its_address(filled):
    _, folder = locate(filled.address(filled.root / "demo-1"), RESULTS)
    assert (folder / "log.txt").stat().st_size == 1000
    with pytest.raises(UserError, match="is not the folder of a run: it has no status.json"):
        locate(filled.address(filled.root / "demo-1"), STATUS)
    with pytest.raises(UserError, match="is not the folder of a finished run"):
        locate(filled.address(filled.root / "demo-2"), RESULTS)
