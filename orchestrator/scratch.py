"""Files on this machine that no result needs: what of them may stay, and for how long.

Whoever is killed cannot tidy up, so the next run does. What it removes it knows as ours, and nobody's any more.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from orchestrator.artifacts import Store
from orchestrator.remote import mirrors

TUNE = "stillhouse-tune-"  # and the driver's process ID: Tune's folder of an experiment
OURS = "started-by-stillhouse"  # a file in the session folders of clusters that we have started
SESSIONS = 3  # folders of Ray's that are kept, for their logs
MIRRORS = 20 * 2**30  # bytes of remote storages' copies that may stay
IDLE = 7 * 86400.0  # seconds after which a copy is nobody's any more


def sweep(session: Path) -> None:
    """Remove what killed drivers have left; `session` is the folder of the Ray cluster that was started just now."""
    (session / OURS).touch()
    ours = sorted(file.parent for file in session.parent.glob(f"session_*/{OURS}"))
    left = [folder for folder in ours if not alive(folder.name.rpartition("_")[2])]
    scratch = Path(tempfile.gettempdir()).glob(f"{TUNE}*-*")
    remove(left[:-SESSIONS])
    remove(folder for folder in scratch if not alive(folder.name.removeprefix(TUNE).partition("-")[0]))
    remove(outdated([folder for folder in mirrors().iterdir() if folder.is_dir()] if mirrors().is_dir() else []))


def outdated(copies: Iterable[Path], budget: int = MIRRORS) -> list[Path]:
    """Copies that are too many: those that nobody has used for long, longest first, until the rest is in the budget."""
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


def alive(process: str) -> bool:
    """Whether there is a process of that ID; true where it is no ID, so that nothing is taken for a dead one's."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True


def last_used(folder: Path) -> float:
    """Seconds since 1970: a running driver writes its status into a folder below every few seconds."""
    return max((path.stat().st_mtime for path in (folder, *folder.iterdir())), default=0.0)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # another run may tidy up at the same time
