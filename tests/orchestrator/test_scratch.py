"""What killed drivers leave behind does not pile up."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.scratch import IDLE, OURS, SESSIONS, TUNE, outdated, sweep


@pytest.fixture
def dead() -> int:
    """The ID of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def session(home: Path, day: int, process: int, ours: bool = True) -> Path:
    folder = home / f"session_2026-11-{day:02d}_10-00-00_000000_{process}"
    folder.mkdir()
    if ours:
        (folder / OURS).touch()
    return folder


def test_sessions_of_dead_drivers_go_but_for_the_last_ones(tmp_path, monkeypatch, dead):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "none"))
    home = tmp_path / "ray"
    home.mkdir()
    theirs, living = session(home, 1, dead, ours=False), session(home, 2, os.getppid())
    old = [session(home, day, dead) for day in range(3, 5 + SESSIONS)]
    now = session(home, 29, os.getpid(), ours=False)
    sweep(now)
    assert sorted(home.iterdir()) == [theirs, living, *old[-SESSIONS:], now]


def test_tune_s_folders_of_dead_drivers_go(tmp_path, monkeypatch, dead):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (f"{TUNE}{dead}-x", f"{TUNE}{os.getpid()}-x", f"{TUNE}old-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "ray").mkdir()
    sweep(session(tmp_path / "ray", 1, os.getpid()))
    left = {f"{TUNE}{os.getpid()}-x", f"{TUNE}old-x", "other", "ray"}
    assert {path.name for path in tmp_path.iterdir()} == left


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
        copy(tmp_path, name, idle) for name, idle in (("b", 3 * IDLE), ("a", 2 * IDLE), ("c", 0.5 * IDLE))
    )
    copies = list(tmp_path.iterdir())
    assert outdated(copies, budget=3000) == []
    assert outdated(copies, budget=2999) == [older]
    assert outdated(copies, budget=1) == [older, old] and new.exists()
