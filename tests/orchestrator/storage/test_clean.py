"""What a storage may lose."""

import pytest

from orchestrator.errors import UserError
from orchestrator.storage.clean import clean, unneeded
from orchestrator.storage.files import write_json
from orchestrator.storage.lease import leased
from orchestrator.storage.runs import RESULTS, STATUS, locate
from orchestrator.storage.store import STAGE, Store


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
    write_json(filled.root / "demo-2" / STATUS, {"state": "failed", "stages": [{"folders": paths} for paths in made]})
    filled.push(filled.root / "demo-2")
    (filled.root / "probe-1").write_bytes(b"")
    (filled.root / "probe-2").mkdir()  # of an experiment that is called probe
    (filled.root / "probe-2" / "log.txt").write_bytes(b"")
    for name in ("probe-1", "probe-2"):
        filled.push(filled.root / name)
    assert set(unneeded(filled)) == {"probe-1"}
    given_up = {"artifacts/teacher/unused", "probe-1", "shards/b.parquet", "work/search/abc"}
    assert set(unneeded(filled, unfinished=True)) == given_up


def test_copies_of_a_remote_storage_are_removed_too(filled):
    before = set(filled.sizes())
    clean(filled, lambda question: "copies" in question, lambda line: None)
    assert filled.root.exists() is not filled.is_remote
    filled.pull(filled.root)
    assert set(filled.sizes()) == before


def test_nothing_is_removed_under_a_run_that_is_alive(filled):
    folder = filled.root / "work" / "search" / "abc"
    with leased(filled, folder, "search"), pytest.raises(UserError, match="search is being made by another run"):
        clean(filled, lambda question: True, lambda line: None)


@pytest.mark.usefixtures("elsewhere")
def test_a_run_is_found_by_its_address(filled):
    _, folder = locate(filled.address(filled.root / "demo-1"), RESULTS)
    assert (folder / "log.txt").stat().st_size == 1000
    with pytest.raises(UserError, match="is not the folder of a run: it has no status.json"):
        locate(filled.address(filled.root / "demo-1"), STATUS)
    with pytest.raises(UserError, match="is not the folder of a finished run"):
        locate(filled.address(filled.root / "demo-2"), RESULTS)
