"""What killed drivers leave behind does not pile up."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from orchestrator.storage import scratch
from orchestrator.storage.owner import this_process
from orchestrator.storage.scratch import (
    IDLE,
    MIRRORS,
    OURS,
    OWN,
    SESSIONS,
    TUNE,
    copies_of,
    environment,
    last_used,
    outdated,
    remove,
    size_of,
    sweep,
    temporary_files,
    tune_folder,
    watched,
)
from orchestrator.storage.store import Store

GONE = {**this_process(), "begun": -1}  # the number is another process's now
LIVING = this_process()
ELSEWHERE = {**GONE, "machine": "another"}


def folder(home: Path, name: str, owner: object) -> Path:
    (home / name).mkdir(parents=True)
    if owner is not None:
        (home / name / OURS).write_text(json.dumps(owner))
    return home / name


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """No copies of remote storages, a temporary folder of our own, and one for Ray."""
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "mirrors"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("tmp", "ray"):
        (tmp_path / name).mkdir()


def test_another_version_sweeps_by_the_same_names():
    assert (TUNE, OWN, OURS) == ("stillhouse-tune-", "stillhouse-tmp-", "started-by-stillhouse.json")


def test_copies_may_stay_for_a_week_or_up_to_twenty_gibibytes_and_three_sessions_for_their_logs():
    assert (SESSIONS, MIRRORS, IDLE) == (3, 21_474_836_480, 604_800.0)


def test_sessions_of_dead_drivers_go_but_for_the_last_ones(tmp_path):
    home = tmp_path / "ray"
    kept = [folder(home, f"session_0{day}", owner) for day, owner in enumerate((None, LIVING, ELSEWHERE))]
    old = [folder(home, f"session_1{day}", GONE) for day in range(2 + SESSIONS)]
    now = folder(home, "session_20", None)
    sweep(now, tmp_path / "tmp")
    assert sorted(home.iterdir()) == [*kept, *old[-SESSIONS:], now]
    assert json.loads((now / OURS).read_text()) == this_process()


def test_tune_s_folders_of_dead_drivers_go(tmp_path):
    home = tmp_path / "tmp"
    owners = {"a": GONE, "b": LIVING, "c": ELSEWHERE, "d": None, "e": "torn", "f": GONE}
    for name, owner in owners.items():
        folder(home, f"{TUNE}{name}", owner if owner != "torn" else None)
    (home / f"{TUNE}e" / OURS).write_text("{")
    folder(home, "other", GONE)
    with tune_folder() as ours:
        assert ours.name.startswith(TUNE)
        sweep(folder(tmp_path / "ray", "session_1", None), tmp_path / "tmp")
        left = {f"{TUNE}{name}" for name in "bcde"} | {"other", ours.name}
        assert {path.name for path in home.iterdir()} == left
    assert not ours.exists()


def test_temporary_files_of_a_cluster_go_with_it_and_those_of_dead_drivers_too(tmp_path, monkeypatch):
    home = tmp_path / "tmp"
    monkeypatch.setenv("TMPDIR", "as-it-was")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    left = [folder(home, f"{OWN}{name}", owner) for name, owner in (("a", GONE), ("b", LIVING))]
    with temporary_files() as before:
        assert before == home and os.environ["RAY_TMPDIR"] == "as-it-was"
        (made,) = set(home.iterdir()) - set(left)
        assert made.name.startswith(OWN) and os.environ["TMPDIR"] == tempfile.gettempdir() == str(made)
        command = [sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"]
        theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert Path(theirs).parent == made and Path(theirs).is_dir()
        sweep(folder(tmp_path / "ray", "session_1", None), before)
        assert set(home.iterdir()) == {left[1], made}
    assert list(home.iterdir()) == [left[1]]
    assert tempfile.gettempdir() == str(home)
    assert os.environ["TMPDIR"] == "as-it-was" and "RAY_TMPDIR" not in os.environ


@pytest.mark.parametrize(("before", "rays"), [({"RAY_TMPDIR": "r", "TMPDIR": "t"}, "r"), ({}, "/tmp")])
def test_ray_s_own_files_stay_where_they_were(monkeypatch, before, rays):
    names = ("RAY_TMPDIR", "TMPDIR")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    with temporary_files():
        assert os.environ["RAY_TMPDIR"] == rays
    assert {name: os.environ[name] for name in names if name in os.environ} == before


def test_a_folder_that_cannot_be_removed_is_left_to_the_next_driver(monkeypatch):
    monkeypatch.setattr(scratch, "remove", lambda folders: None)
    with temporary_files():
        made = Path(tempfile.gettempdir())
        (made / OURS).unlink()
    assert json.loads((made / OURS).read_text()) == this_process()


def test_a_variable_that_the_block_has_removed_stays_removed(monkeypatch):
    monkeypatch.delenv("STILLHOUSE_X", raising=False)
    with environment({"STILLHOUSE_X": "1"}):
        del os.environ["STILLHOUSE_X"]
    assert "STILLHOUSE_X" not in os.environ


def test_maps_that_nobody_has_used_for_long_go(tmp_path):
    maps = tmp_path / "mirrors" / "maps"
    maps.mkdir(parents=True)
    for name, idle in (("old", 2 * IDLE), ("new", 0.5 * IDLE)):
        (maps / name).write_bytes(b"x")
        then = time.time() - idle
        os.utime(maps / name, (then, then))
    sweep(folder(tmp_path / "ray", "session_1", None), tmp_path / "tmp")
    assert [file.name for file in maps.iterdir()] == ["new"]


def test_what_is_not_a_copy_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.storage.scratch.MIRRORS", 0)
    copies = [copy(tmp_path / "mirrors", name, 2 * IDLE) for name in (16 * "0", f"{16 * '1'}-watched")]
    theirs = copy(tmp_path / "mirrors", "my-dataset", 2 * IDLE)
    sweep(folder(tmp_path / "ray", "session_1", None), tmp_path / "tmp")
    assert theirs.exists() and not any(path.exists() for path in copies)


def copy(home: Path, name: str, idle: float) -> Path:
    folder = home / name
    folder.mkdir(parents=True)
    (folder / "run").mkdir()
    (folder / "run" / "file").write_bytes(bytes(1000))
    then = folder.stat().st_mtime - idle
    for path in (folder / "run", folder):
        os.utime(path, (then, then))
    return folder


def test_copies_go_that_nobody_has_used_for_long_where_there_are_too_many(tmp_path):
    older, old, new = (
        copy(tmp_path / "mirrors", name, idle) for name, idle in (("b", 3 * IDLE), ("a", 2 * IDLE), ("c", 0.5 * IDLE))
    )
    copies = list((tmp_path / "mirrors").iterdir())
    assert outdated(copies, budget=3000) == []
    assert outdated(copies, budget=2999) == [older]
    assert outdated(copies, budget=1) == [older, old] and new.exists()


def test_this_machine_s_copies_are_the_mirror_and_the_page_s(tmp_path):
    here, store = Store(tmp_path), Store("s3://bucket/runs")
    assert watched(here) == here.root and copies_of(here) == []
    page = store.root.with_name(f"{store.root.name}-watched")
    assert watched(store) == page and copies_of(store) == []
    for one in (store.root, page):
        one.mkdir(parents=True)
    assert copies_of(store) == [store.root, page]


def test_of_a_copy_what_vanishes_does_not_count(tmp_path):
    one = copy(tmp_path, "a", 0.0)
    (one / "run" / "more").write_bytes(bytes(500))
    for place in (one, one / "run"):
        (place / "gone").symlink_to("nowhere")  # as a file that goes between two looks
    os.utime(one / "run", (4e9, 4e9))
    assert size_of(one) == 1500 and last_used(one) == 4e9


def test_what_another_run_has_removed_meanwhile_is_no_error(tmp_path):
    (tmp_path / "there").mkdir()
    remove([tmp_path / "none", tmp_path / "there"])
    assert not (tmp_path / "there").exists()
