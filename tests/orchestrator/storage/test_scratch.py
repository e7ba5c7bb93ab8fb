"""What killed drivers leave behind does not pile up."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.storage.owner import this_process
from orchestrator.storage.scratch import (
    IDLE,
    OURS,
    OWN,
    SESSIONS,
    TUNE,
    outdated,
    sweep,
    temporary_files,
    tune_folder,
)

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
    owners = {"a": GONE, "b": LIVING, "c": ELSEWHERE, "d": None, "e": "torn"}
    for name, owner in owners.items():
        folder(home, f"{TUNE}{name}", owner if owner != "torn" else None)
    (home / f"{TUNE}e" / OURS).write_text("{")
    folder(home, "other", GONE)
    with tune_folder() as ours:
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
