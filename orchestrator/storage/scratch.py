"""Temporary files on this machine: which of them are kept, and for how long.

A killed driver cannot remove its files, so the next driver does. It removes only files that Stillhouse made and whose
process no longer runs.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from features.caching import remove_idle
from features.files import local_copies
from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.owner import is_dead_here, this_process
from orchestrator.storage.store import Store

TUNE = "stillhouse-tune-"  # Tune's folder of an experiment
OWN = "stillhouse-tmp-"  # temporary files of a cluster on this machine
MIRROR = re.compile(r"[0-9a-f]{16}(-watched)?")
OURS = "started-by-stillhouse.json"  # in a folder that a driver made: the driver's process
SESSIONS = 3  # folders of Ray's that are kept, for their logs
MIRRORS = 20 * 2**30  # bytes of remote storages' copies that may stay
IDLE = 7 * 86400.0  # seconds without use after which a copy may be removed


def sweep(session: Path, home: Path) -> None:
    """Remove what killed drivers have left, and what nobody has used for long.

    `session` is the folder of the Ray cluster that was started just now, `home` this machine's for temporary files.
    """
    mark(session)
    remove(abandoned(session.parent, "session_*")[:-SESSIONS])
    for name in (TUNE, OWN):
        remove(abandoned(home, f"{name}*"))
    remove_idle(IDLE)
    copies = local_copies().iterdir() if local_copies().is_dir() else ()
    ours = [folder for folder in copies if folder.is_dir() and MIRROR.fullmatch(folder.name)]
    remove(outdated(ours, MIRRORS))


@contextmanager
def temporary_files() -> Iterator[Path]:
    """Let this process, and those that it starts, write their temporary files into a folder that goes afterwards.

    Ray ends its processes so that multiprocessing and TensorFlow cannot remove theirs. Yields the folder for such files
    as it was; Ray's own stay there, for their logs.
    """
    before = Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=OWN))
    mark(folder)
    rays = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # as Ray itself has it
    try:
        with environment({"TMPDIR": str(folder), "RAY_TMPDIR": rays}):
            tempfile.tempdir = str(folder)
            yield before
    finally:
        tempfile.tempdir = str(before)
        remove([folder])
        if folder.exists():  # a process that is dying has written there meanwhile: the next driver removes it
            mark(folder)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block, which what it starts inherits."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def tune_folder() -> Iterator[Path]:
    """A temporary folder for Tune, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=TUNE) as folder:
        mark(Path(folder))
        yield Path(folder)


def mark(folder: Path) -> None:
    """Write into it whose it is."""
    write_json(folder / OURS, this_process())


def abandoned(home: Path, pattern: str) -> list[Path]:
    """Folders that a driver on this machine has made which is gone, by name."""
    found = []
    for file in sorted(home.glob(f"{pattern}/{OURS}")):
        try:
            owner = read_json(file)
        except (OSError, UserError):  # it goes at this moment, or was never written to its end
            continue
        if is_dead_here(owner):
            found.append(file.parent)
    return found


def outdated(copies: Iterable[Path], budget: int) -> list[Path]:
    """The copies to remove: those unused for IDLE seconds, oldest first, until the rest fits into the budget."""
    sizes = {folder: size_of(folder) for folder in sorted(copies, key=last_used)}
    found: list[Path] = []
    for folder in sizes:
        if sum(sizes.values()) - sum(sizes[gone] for gone in found) <= budget:
            break
        if time.time() - last_used(folder) > IDLE:
            found.append(folder)
    return found


def copies_of(store: Store) -> list[Path]:
    """This machine's copies of a remote storage: a run's, and those of its page."""
    if not store.is_remote:
        return []
    return [folder for folder in (store.root, watched(store)) if folder.is_dir()]


def watched(store: Store) -> Path:
    """Where the page keeps copies: not in the store's mirror, where a driver may have newer files than the storage."""
    return store.root.with_name(f"{store.root.name}-watched") if store.is_remote else store.root


def last_used(folder: Path) -> float:
    """Seconds since 1970: a running driver writes its status into a folder below every few seconds."""
    latest = 0.0
    for path in (folder, *folder.iterdir()):
        with suppress(FileNotFoundError):
            latest = max(latest, path.stat().st_mtime)
    return latest


def size_of(folder: Path) -> int:
    """Bytes of all files below; another run may be at work there, so what vanishes meanwhile does not count."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += (Path(place) / name).stat().st_size
    return size


def remove(folders: Iterable[Path]) -> None:
    """Remove folders, so far as that is possible."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # another run may tidy up at the same time
