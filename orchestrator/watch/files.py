"""The small files of a run's storage, up to date, wherever the storage is."""

from pathlib import Path

from orchestrator.storage.runs import STATUS
from orchestrator.storage.scratch import watched
from orchestrator.storage.store import Store
from orchestrator.training.record import FAILURE, ROWS, TRIAL

WANTED = {STATUS, TRIAL, ROWS, FAILURE}
"""What is read here. Snapshots, nearly all of the bytes, are not."""


class Files:
    """A storage's files below `root`: the storage itself, or copies of a remote one's."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = watched(store)

    def fetch(self, name: str) -> Path:
        """Bring what is wanted at or below `name` up to date, and say where it is."""
        if self.store.is_remote:
            for found, (size, modified) in self.store.remote.listed(name).items():
                file = self.root / found
                if file.name in WANTED and not is_version(file, size, modified):
                    self.store.remote.get(found, file, modified)
        return self.root / name


def is_version(file: Path, size: int, modified: float) -> bool:
    return file.exists() and (file.stat().st_size, file.stat().st_mtime) == (size, modified)


def read(file: Path) -> str | None:
    """A file's text; None where there is none, or none any more: stages move their work when they are finished."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
