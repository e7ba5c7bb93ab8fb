"""Files that are written in one step, and kept where every node finds them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Keeper:
    """Keeps finished files where every node finds them. This one relies on their folder being shared by all."""

    def has(self, path: Path) -> bool:
        return path.exists()

    def push(self, path: Path) -> None:
        """Called for a file that was finished here."""

    def pull(self, path: Path) -> None:
        """Called for a file that is about to be read here, and was perhaps finished elsewhere."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success the file written there takes its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # two machines may have equal process numbers
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
