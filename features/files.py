"""Files that are written in one step, and kept where every node finds them."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def local_copies() -> Path:
    """This machine's folder of copies and maps of what storages have; may be deleted at any time between runs."""
    return Path(os.environ.get("STILLHOUSE_MIRROR") or Path.home() / ".cache" / "stillhouse")


class Keeper:
    """Keeps finished files where every node finds them. This one relies on their folder being shared by all."""

    def has(self, path: Path) -> bool:
        return path.exists()

    def push(self, path: Path) -> None:
        """Called for a file that was finished here."""

    def pull(self, path: Path) -> None:
        """Called for a file that is about to be read here, and was perhaps finished elsewhere."""

    def pull_again(self, path: Path) -> bool:
        """Called for a file that is damaged here; whether another copy has taken its place."""
        return False

    def remove(self, path: Path) -> None:
        """Called for a file that is damaged."""
        path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success the file written there takes its place in one step.

    After a power cut the old file or the new one is there, whole: the new one's bytes are on the disk before its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # two machines may have equal process numbers
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_all(folder: Path) -> None:
    """Bring everything below a folder to the disk, and the folder itself."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, from memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
