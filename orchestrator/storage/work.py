"""Work in progress of a stage: a folder that survives interruptions until the artifact is published."""

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.lease import Holder, Progress, Waiting, leased, unknown_progress
from orchestrator.storage.remote import hurried
from orchestrator.storage.store import LEASE, Store
from orchestrator.versions import begun_with, require_same

SECONDS, VERSIONS = "seconds.json", "versions.json"
CLEAN = "clean"  # the folder in work/ that has the lease of a run of `clean`


class Work:
    """The folder, and the seconds that were spent on it over all interruptions."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.discarded = store, folder, False
        self.before = seconds_in(folder / SECONDS)
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent so far, over all interruptions."""
        return self.before + time.monotonic() - self.started

    def save(self) -> None:
        """Write the seconds that were spent, for the next start."""
        write_json(self.folder / SECONDS, self.seconds)
        self.store.push(self.folder / SECONDS)

    def discard(self) -> None:
        """Remove the folder at the end: the artifact is published."""
        self.discarded = True


def seconds_in(file: Path) -> float:
    """No seconds where they were not saved or cannot be read: they are for show."""
    try:
        return float(read_json(file)) if file.exists() else 0.0
    except (UserError, TypeError):
        return 0.0


def require_versions(store: Store, work: Path) -> None:
    """Raises UserError where this node's versions differ from the driver's.

    Every process that works in the folder calls this, because its node may have joined after the preflight.
    """
    file = work / VERSIONS
    store.pull(file)
    if file.exists():
        require_same(read_json(file), f"node {socket.gethostname()}: what is in {work.name}")


type Fetch = Callable[[Store, Path, bool], None]
"""Downloads the work below a folder; where True, also removes from the mirror what the storage does not have."""


def fetch_all(store: Store, folder: Path, exactly: bool) -> None:
    """Every file."""
    store.pull(folder, exactly)


def no_notice(holder: Holder) -> None:
    """Wait without showing anything."""


@contextmanager
def working(
    store: Store,
    kind: str,
    key: str,
    waiting: Waiting = no_notice,
    progress: Progress = unknown_progress,
    fetch: Fetch = fetch_all,
) -> Iterator[Work]:
    """A stage's work in progress, as an earlier run left it, and ours alone for the block.

    Where another run works on it, wait for that one, and call `waiting` meanwhile: it may have published the artifact
    then. `progress` is shown to the runs that wait. The key holds what made it, so that what other code or
    libraries began is elsewhere.
    """
    folder = store.root / "work" / kind / key
    folder.mkdir(parents=True, exist_ok=True)
    with leased(store, folder, kind, waiting, progress):
        fetch(store, folder, True)
        file = folder / VERSIONS
        write_json(file, begun_with())
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
        tidy(folder)


@contextmanager
def sharing(
    store: Store, kind: str, keys: Iterable[str], waiting: Waiting = no_notice, progress: Progress = unknown_progress
) -> Iterator[None]:
    """Hold the leases of several artifacts that are made together: other runs wait that want one of them.

    They are taken in the order of their keys, so that no two runs wait for each other.
    """
    with ExitStack() as leases:
        for key in sorted(set(keys)):
            folder = store.root / "work" / kind / key
            leases.callback(tidy, folder)
            leases.enter_context(leased(store, folder, f"{kind} {key}", waiting, progress))
        yield


@contextmanager
def running(store: Store, folder: Path) -> Iterator[None]:
    """A run, alone in its folder. Raises UserError where that run is already under way.

    It begins once no `clean` is removing what it might use; a later one sees this run's lease.
    """
    try:
        with leased(store, folder, f"the run {folder.name}"):
            with cleaning(store):
                pass
            yield
    finally:
        tidy(folder)  # a start that failed at once has left nothing in it


@contextmanager
def cleaning(store: Store) -> Iterator[None]:
    """While nothing else is removed from the storage, and no run begins there."""
    folder = store.root / "work" / CLEAN
    with leased(store, folder, "the storage", no_notice):
        yield
    tidy(folder)


def tidy(folder: Path) -> None:
    with suppress(OSError):  # it was not there, or another run has begun to work there
        folder.rmdir()
