"""A machine's copies of a remote storage: what travels, what stays, and what vanishes while somebody looks."""

import os
from pathlib import Path

import pytest

from orchestrator.storage import store as module
from orchestrator.storage.files import write_json
from orchestrator.storage.seal import damage_of
from orchestrator.storage.store import LEASE, RESULTS, STAGE, Store


def test_others_rely_on_the_names_of_these_files():
    assert (STAGE, RESULTS, LEASE) == ("stage.json", "results.json", "lease.json")


@pytest.mark.parametrize("uri", ["s3://bucket/runs/", "s3://bucket/runs", "s3://bucket/runX"])
def test_a_slash_at_the_end_makes_no_other_storage(uri):
    store, plain = Store(uri), uri.rstrip("/")
    assert (store.uri, store.root) == (plain, Store(plain).root)
    assert store.address(store.root / "demo-1") == f"{plain}/demo-1"


def test_hidden_files_and_leases_do_not_travel_and_a_pull_removes_nothing(store, elsewhere):
    if not store.is_remote:
        pytest.skip("a folder has no transfers")
    for name in ("rows.json", ".rows.json.abc.tmp", "lease.json"):
        write_json(store.root / "work" / name, 1)
    store.push(store.root / "work")
    assert set(store.sizes()) == {"work/rows.json"}
    write_json(elsewhere.root / "work" / "ours.json", 2)  # not in the storage yet
    elsewhere.pull(elsewhere.root / "work")
    assert sorted(file.name for file in (elsewhere.root / "work").iterdir()) == ["ours.json", "rows.json"]


def test_what_vanishes_while_a_folder_is_removed_is_no_error(store, monkeypatch):
    folder = store.root / "work" / "a"
    for name in ("rows.json", "gone.json"):
        write_json(folder / name, 1)
    parts_of = Path.iterdir

    def then_gone(path: Path) -> list[Path]:
        parts = list(parts_of(path))
        (folder / "gone.json").unlink(missing_ok=True)
        return parts

    monkeypatch.setattr(Path, "iterdir", then_gone)
    store.remove(folder)
    assert not folder.exists()


def test_what_vanishes_while_a_mirror_is_put_right_is_no_error(store, elsewhere, monkeypatch):
    if not store.is_remote:
        pytest.skip("a folder has no copies")
    write_json(store.root / "work" / "rows.json", 1)
    store.push(store.root / "work")
    write_json(elsewhere.root / "work" / "gone.json", 1)

    def then_gone(path: Path) -> str:
        if path.is_file():
            path.unlink()
        return Store.name(elsewhere, path)

    monkeypatch.setattr(elsewhere, "name", then_gone)
    elsewhere.pull(elsewhere.root / "work", exactly=True)
    assert [file.name for file in (elsewhere.root / "work").iterdir()] == ["rows.json"]


@pytest.fixture
def copy(store, elsewhere) -> Path:
    """Another machine's copy of an artifact's file."""
    if not store.is_remote:
        pytest.skip("a folder has no copies")
    with store.publish("labels", "abc") as folder:
        (folder / "labels").write_bytes(b"good")
        (folder / STAGE).write_text("{}")
    return elsewhere.finished("labels", "abc") / "labels"


def test_an_artifact_s_copy_that_the_disk_has_damaged_is_fetched_again(elsewhere, copy):
    told: list[str] = []
    elsewhere.tell = told.append
    at = copy.stat()
    copy.write_bytes(b"bads")
    os.utime(copy, ns=(at.st_atime_ns, at.st_mtime_ns))  # as a disk damages it
    assert elsewhere.finished("labels", "abc") == copy.parent
    assert copy.read_bytes() == b"good" and told == []


def test_a_damaged_copy_may_vanish_before_it_is_fetched_again(elsewhere, copy, monkeypatch):
    looks: list[Path] = []

    def then_gone(folder: Path, record: str) -> str | None:
        looks.append(folder)
        if len(looks) > 1:
            return damage_of(folder, record)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return "labels is missing"

    monkeypatch.setattr(module, "damage_of", then_gone)
    assert elsewhere.finished("labels", "abc") == copy.parent
    assert copy.read_bytes() == b"good" and len(looks) == 2
