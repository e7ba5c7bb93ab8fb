"""Work in progress of a stage: a folder that survives interruptions until the artifact is published."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.lease import LEASE, leased
from orchestrator.storage.remote import hurried
from orchestrator.storage.store import Store
from orchestrator.versions import require_same, versions

SECONDS, VERSIONS = "seconds.json", "versions.json"


class Work:
    """The folder, and the seconds that were spent on it over all interruptions."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.discarded = store, folder, False
        self.before: float = read_json(folder / SECONDS) if (folder / SECONDS).exists() else 0.0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def save(self) -> None:
        write_json(self.folder / SECONDS, self.seconds)
        self.store.push(self.folder / SECONDS)

    def discard(self) -> None:
        """The artifact is published: nothing here is needed any more."""
        self.discarded = True


def require_versions(store: Store, work: Path) -> None:
    """In a process that works there: its node may have joined long after the others were looked at.

    Raises UserError where it has other versions than the driver.
    """
    file = work / VERSIONS
    store.pull(file)
    if file.exists():
        require_same(read_json(file), f"node {socket.gethostname()}: what is in {work.name}")


@contextmanager
def working(store: Store, kind: str, key: str) -> Iterator[Work]:
    """A stage's work in progress, as an earlier run left it, and ours alone for the block.

    Its key holds what made it, so that what other code or libraries began is elsewhere. Raises UserError where another
    run works on it.
    """
    folder = store.root / "work" / kind / key
    folder.mkdir(parents=True, exist_ok=True)
    with leased(store, folder, kind):
        store.pull(folder, exactly=True)
        file = folder / VERSIONS
        write_json(file, versions())
        store.push(file)
        work = Work(store, folder)
        try:
            yield work
        except BaseException:
            with hurried(), suppress(OSError):  # the reason is on its way
                work.save()
            raise
        if work.discarded:
            store.remove(folder, keep=LEASE)
        else:
            work.save()
    if work.discarded:
        with suppress(OSError):  # another run has begun to work there
            folder.rmdir()
