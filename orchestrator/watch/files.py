"""The small files of a run's storage, up to date, wherever the storage is."""

from pathlib import Path

from orchestrator.storage.remote import is_version
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
        """Update the local copies of the files at or below `name`; returns where they are."""
        if self.store.is_remote:
            there = self.store.remote.listed(name)
            wanted = {found: self.root / found for found in there if found.rpartition("/")[2] in WANTED}
            self.store.remote.get(
                {found: file for found, file in wanted.items() if not is_version(file, *there[found])}
            )
        return self.root / name

    def has(self, name: str) -> bool:
        """Whether a name, which anybody may have written into a file, leads into the storage and not out of it."""
        return (self.root / name).resolve().is_relative_to(self.root.resolve())


def is_link(folder: Path) -> bool:
    """Whether a folder, or the one that it is in, lies elsewhere."""
    return folder.is_symlink() or folder.parent.is_symlink()


def is_plain(file: Path) -> bool:
    """Whether there is a file, and not a link to another."""
    return file.is_file() and not file.is_symlink()


def read(file: Path) -> str | None:
    """A file's text; None where there is none, or none any more: stages move their work when they are finished."""
    if file.is_symlink():  # what it leads to is not the run's
        return None
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
