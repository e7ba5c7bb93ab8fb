"""Work in progress: its files' names, its seconds, its versions and its leases."""

import threading

import pytest

from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.lease import LEASE
from orchestrator.storage.store import Store
from orchestrator.storage.work import (
    CLEAN,
    SECONDS,
    VERSIONS,
    cleaning,
    require_versions,
    running,
    seconds_in,
    sharing,
    working,
)
from orchestrator.versions import begun_with
from tests.orchestrator.storage.leases import held


def test_others_rely_on_the_names_of_these_files():
    assert (SECONDS, VERSIONS, CLEAN) == ("seconds.json", "versions.json", "clean")


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_seconds_that_cannot_be_read_are_none(tmp_path, text):
    (tmp_path / "seconds.json").write_text(text)
    assert seconds_in(tmp_path / "seconds.json") == 0.0 == seconds_in(tmp_path / "none")


def test_who_works_in_a_folder_has_the_versions_that_it_was_begun_with(store, elsewhere):
    theirs = elsewhere.root / "work" / "search" / "abc"
    require_versions(elsewhere, theirs)  # not begun yet
    with working(store, "search", "abc") as work:
        require_versions(elsewhere, theirs)
        assert read_json(theirs / "versions.json") == begun_with()
        write_json(work.folder / "versions.json", {**begun_with(), "torch": "0.1"})
        store.push(work.folder / "versions.json")
        with pytest.raises(UserError, match=r"^node .+: what is in abc was begun with torch 0\.1, here it is "):
            require_versions(elsewhere, theirs)


def test_a_mirror_s_work_is_what_the_storage_has(store):
    stale = store.root / "work" / "search" / "abc" / "latest"
    write_json(stale, 1)
    with working(store, "search", "abc"):
        assert stale.exists() is not store.is_remote


def test_each_lease_says_of_what_it_is(store):
    def names() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("lease of ")}

    with running(store, store.root / "demo-1"), working(store, "search", "abc"), sharing(store, "teacher", ["b"]):
        assert {"lease of the run demo-1", "lease of search", "lease of teacher b"} <= names()
    with cleaning(store):
        assert "lease of the storage" in names()


def test_the_seconds_of_work_that_fails_are_kept(store, elsewhere):
    with pytest.raises(RuntimeError, match="the reason"), working(store, "search", "abc") as work:
        work.before = 100.0
        raise RuntimeError("the reason")
    with working(elsewhere, "search", "abc") as again:
        assert again.before >= 100.0


def test_a_storage_that_is_down_does_not_hide_why_the_work_failed(store, monkeypatch):
    def down() -> None:
        raise OSError("down")

    with pytest.raises(RuntimeError, match="the reason"), working(store, "search", "abc") as work:
        monkeypatch.setattr(work, "save", down)
        raise RuntimeError("the reason")


def test_the_lease_is_held_until_the_work_is_removed(store, monkeypatch):
    remove, kept = Store.remove, list[str]()

    def noted(store, path, keep=""):
        remove(store, path, keep)
        kept.append(keep)
        assert held(store, path)["run"]

    monkeypatch.setattr(Store, "remove", noted)
    with working(store, "search", "abc") as work:
        work.discard()
    assert kept == [LEASE] and not work.folder.exists()


def test_what_is_shared_has_the_lease_of_its_work(store):
    with sharing(store, "teacher", ["a"], progress=lambda: (0.3, "2 of 7")):
        now = held(store, store.root / "work" / "teacher" / "a")
    assert (now["fraction"], now["detail"]) == (0.3, "2 of 7")
