"""Large files that a machine keeps for itself and can make again: who uses them, and what goes when room is needed.

A file is in use while a process holds a lock on it. Where the file system has no locks, all files count as unused: on
Linux what is removed stays readable for those who have it open.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from features.files import local_copies

UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # of file systems without locks
RECENT = 3600.0  # seconds since its last use in which a file is kept: its run may be between two stages
LOCKS = ".lock"  # files that are never removed, for others may be about to lock them


def map_folder() -> Path:
    """This machine's folder of such files."""
    return local_copies() / "maps"


def lock(file: IO[Any], how: int) -> None:
    """As fcntl.flock; does nothing where the file system has no locks. Raises BlockingIOError where it would wait."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds the lock, and hold it for the block."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            lock(file, fcntl.LOCK_EX)
            if is_at(file, path):  # else somebody has removed it meanwhile, and others lock another file
                yield
                return


def is_at(file: IO[Any], path: Path) -> bool:
    """Whether an open file is the one of that name, not one that was removed."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def allocated(path: Path) -> int:
    """Bytes that a file takes on its disk, which are fewer than its size where it has gaps; 0 where there is none."""
    with suppress(FileNotFoundError):
        return path.stat().st_blocks * 512
    return 0


def make_room(size: int, spared: Path) -> None:
    """Remove files that nobody uses, those first that were not used for longest, until `size` bytes are free.

    Raises OSError where too few are.
    """
    folder = spared.parent
    for file, used in by_last_use(folder).items():
        if shutil.disk_usage(folder).free >= size:
            return
        if file != spared and time.time() - used > RECENT:
            remove_unused(file)
    if shutil.disk_usage(folder).free < size:
        advice = f"the features need {size / 1e9:.1f} GB there; make room, or set STILLHOUSE_MIRROR to another folder"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {advice}", str(folder))


def remove_idle(seconds: float) -> None:
    """Remove what nobody has used for so long."""
    for file, used in by_last_use(map_folder()).items():
        if time.time() - used > seconds:
            remove_unused(file)


def by_last_use(folder: Path) -> dict[Path, float]:
    """The folder's files, and when they were used last, in that order."""
    times = {}
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):
            if file.suffix != LOCKS:
                times[file] = file.stat().st_mtime
    return dict(sorted(times.items(), key=lambda item: item[1]))


def remove_unused(file: Path) -> None:
    """Remove a file unless a process uses it."""
    with suppress(FileNotFoundError, BlockingIOError, PermissionError), file.open("r+b") as held:
        lock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
