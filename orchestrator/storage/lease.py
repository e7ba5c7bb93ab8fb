"""One run at a time works on a result: a lease in its folder, renewed while the run lives."""

import getpass
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from orchestrator.errors import UserError
from orchestrator.storage.owner import is_dead_here, this_process
from orchestrator.storage.register import Register
from orchestrator.storage.remote import hurried
from orchestrator.storage.store import LEASE, Store

log = logging.getLogger("stillhouse")
BEAT = 3.0  # seconds between two renewals, at least
RENEWALS = 0.4  # a second at most, of all leases in a remote storage, as far as PATIENCE allows
PATIENCE = 30.0  # seconds without a renewal after which the holder counts as dead
LOOK = 0.5  # seconds between two looks at a lease that another run holds

held: set["Lease"] = set()  # by this process, in a remote storage

type Progress = Callable[[], tuple[float, str]]  # how far the work is, from 0 to 1, and what it does now


@dataclass(frozen=True)
class Holder:
    """Who works on a result, and how far that is."""

    job: str  # such as "job raysubmit_..." or "process 17"
    user: str
    host: str
    started: str  # UTC
    fraction: float  # done, from 0 to 1
    detail: str

    @classmethod
    def of(cls, lease: Mapping[str, Any]) -> Self:
        job, user, host, started = (str(lease.get(name, "unknown")) for name in ("job", "user", "host", "started"))
        return cls(job, user, host, started, float(lease.get("fraction", 0.0)), str(lease.get("detail", "")))

    def __str__(self) -> str:
        return f"{self.job} of {self.user} on {self.host}, since {self.started}"


type Waiting = Callable[[Holder], None]  # called every moment while another run holds a lease


def unknown_progress() -> tuple[float, str]:
    """For work whose progress nobody knows."""
    return 0.0, ""


@contextmanager
def leased(
    store: Store, folder: Path, what: str, waiting: Waiting | None = None, progress: Progress = unknown_progress
) -> Iterator[None]:
    """Hold the lease of `folder` for the block. One of a dead run is taken over.

    Where another run is alive and holds it, wait for that run and call `waiting` meanwhile. If `waiting` is None, raise
    UserError instead. A holder that was cut off for so long that another took over is interrupted, with UserError.
    """
    lease = Lease(Register(store, folder / LEASE), what, progress)
    lease.acquire(waiting)
    try:
        try:
            if store.is_remote:
                held.add(lease)
            lease.beating.start()
            yield
        finally:
            held.discard(lease)
            lease.end()
    except KeyboardInterrupt:
        if lease.lost:
            raise UserError(lease.taken_over()) from None
        raise
    finally:
        lease.release()


class Lease:
    """A lease that this process holds, or is about to."""

    def __init__(self, register: Register, what: str, progress: Progress) -> None:
        self.register, self.what, self.progress = register, what, progress
        self.mine = {
            "run": uuid.uuid4().hex,
            "job": job_name(),
            "user": user_name(),
            "host": socket.gethostname(),
            **this_process(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.beats, self.version = 0, None
        self.lost = False
        self.ending = threading.Lock()  # held while `beat` interrupts the main thread, which must not leave the block
        self.ended = threading.Event()
        self.beating = threading.Thread(target=self.beat, name=f"lease of {what}", daemon=True)

    def acquire(self, waiting: Waiting | None) -> None:
        """Return once the lease is ours. Raises UserError if another run renews it and `waiting` is None."""
        self.version = self.register.write(self.content(), None)  # most are free: one request
        last, since = None, time.monotonic()
        while self.version is None:
            now, version = self.register.read()
            if now.get("run") == self.mine["run"]:  # the answer to our own writing got lost
                self.version = version
                return
            if now != last:
                if last is not None and now and waiting is None:
                    raise UserError(in_use(now, self.what))
                last, since = now, time.monotonic()
            if not now or is_dead_here(now) or time.monotonic() - since > PATIENCE:
                # Written only where the lease is still as it was read: of two that find it free, one gets it.
                self.version = self.register.write(self.content(), version)
                if self.version is not None:
                    if now:
                        log.info("%s: %s is dead; its work is taken over", self.what, Holder.of(now))
                    return
                continue
            if waiting is not None:
                waiting(Holder.of(now))
            time.sleep(LOOK)

    def content(self) -> dict[str, Any]:
        """What the file holds. "beat" changes at every renewal, so the clocks of two machines need not agree."""
        fraction, detail = self.progress()
        return {**self.mine, "fraction": round(fraction, 3), "detail": detail, "beat": self.beats}

    def beat(self) -> None:
        """Renew the lease until the block has ended or the lease is lost."""
        while not self.ended.wait(pause()):
            try:
                with hurried():  # there is a next time
                    is_held = self.renew()
                with self.ending:
                    if not is_held and not self.ended.is_set():
                        self.lost = True
                        interrupt()
                        return
            except Exception as error:  # where the storage stays down, the work reports it
                log.warning("the lease %s could not be renewed: %s", self.register.file, error)

    def renew(self) -> bool:
        """Write the lease again. False if another run holds it."""
        self.beats += 1
        version = self.register.write(self.content(), self.version)
        if version is None:  # another run's, or the answer to an earlier writing got lost, or somebody removed it
            now, found = self.register.read()
            if now and now.get("run") != self.mine["run"]:
                return False
            self.version = found
            if self.ended.is_set():
                return True
            version = self.register.write(self.content(), found)
        self.version = version or self.version
        return True

    def end(self) -> None:
        """After this, the main thread is not interrupted."""
        with self.ending:
            self.ended.set()

    def release(self) -> None:
        """Remove the lease if it is ours. If this fails, other runs take it over once it is stale."""
        self.ended.set()
        with hurried(), suppress(OSError):
            if self.beating.is_alive():
                self.beating.join(BEAT)
            now, version = self.content(), self.version
            for _ in range(3):  # a renewal may still be on its way
                if self.lost or now.get("run") != self.mine["run"] or self.register.remove(now, version):
                    break
                now, version = self.register.read()

    def taken_over(self) -> str:
        """The error message of a holder that was replaced."""
        with hurried(), suppress(OSError):
            holder = Holder.of(self.register.read()[0])
            return (
                f"{self.what} was taken over by {holder}, since this run could not renew its lease; wait for that one"
            )
        return f"{self.what} was taken over by another run, since this one could not renew its lease"


def pause() -> float:
    """Seconds until the next renewal of a lease: one may fail as slowly as it can, and the next is still in time."""
    return min(max(BEAT, len(held) / RENEWALS), PATIENCE / 4)


def living(store: Store, files: Iterable[Path]) -> dict[Path, Holder]:
    """The holders that are alive, by the file of their lease: watched for PATIENCE seconds, they renew it."""
    registers = {file: Register(store, file) for file in files}
    first = {file: register.read()[0] for file, register in registers.items()}
    open_ones = {file for file, lease in first.items() if lease and not is_dead_here(lease)}
    found: dict[Path, Holder] = {}
    deadline = time.monotonic() + PATIENCE
    while open_ones and time.monotonic() < deadline:
        time.sleep(LOOK)
        for file in sorted(open_ones):
            now, _ = registers[file].read()
            if now != first[file]:
                open_ones.remove(file)
                found |= {file: Holder.of(now)} if now else {}
    return dict(sorted(found.items()))


def interrupt() -> None:
    """Interrupt the main thread as Ctrl-C does, or as a kill does where Ctrl-C is ignored."""
    which = next((one for one in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(one))), None)
    main = threading.main_thread().ident
    if which is not None and main is not None:
        signal.pthread_kill(main, which)  # a real one ends even a long sleep


def job_name() -> str:
    """A submitted job's ID, which Ray hands to its driver in the environment; else the process."""
    with suppress(KeyError):
        return f"job {job_config()['metadata']['job_submission_id']}"
    return f"process {os.getpid()}"


def job_config() -> dict[str, Any]:
    """The submitted job's configuration, which Ray puts into its driver's environment; empty in other processes."""
    with suppress(ValueError):
        return json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""))
    return {}


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of a container that does not know its user
        return f"user {os.getuid()}"


def in_use(lease: Mapping[str, Any], what: str) -> str:
    return f"{what} is already being made by {Holder.of(lease)}; wait for it to finish, or use another --storage"
