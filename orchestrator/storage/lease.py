"""One run at a time works on a result: a lease in its folder, renewed while the run lives."""

import _thread
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.remote import hurried
from orchestrator.storage.store import Store

log = logging.getLogger("stillhouse")
LEASE = "lease.json"
BEAT = 3.0  # seconds between two renewals
PATIENCE = 30.0  # seconds without one after which the holder is dead
SETTLE = 0.5  # seconds after which of two that took a lease at once both see whose it is


@contextmanager
def leased(store: Store, folder: Path, what: str) -> Iterator[None]:
    """Hold the lease of `folder` for the block. Raises UserError where another run is alive and holds it.

    A holder that was cut off for so long that another took over is interrupted, and says so.
    """
    file = folder / LEASE
    mine = {"run": uuid.uuid4().hex, "host": socket.gethostname(), "machine": machine(), "process": os.getpid()}
    require_free(store, file, what)
    take(store, file, mine, what)
    ended, lost = threading.Event(), threading.Event()
    beating = threading.Thread(target=beat, args=(store, file, mine, ended, lost), daemon=True)
    beating.start()
    try:
        yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise UserError(in_use(read(store, file), what)) from None
        raise
    finally:
        ended.set()
        with hurried(), suppress(OSError):  # a lease that is not given back is found dead
            beating.join(BEAT)
            if not lost.is_set() and read(store, file).get("run") == mine["run"]:
                store.remove(file)


def interrupt() -> None:
    """Interrupt the main thread as Ctrl-C does, or as a kill does where Ctrl-C is ignored."""
    _thread.interrupt_main(signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else signal.SIGTERM)


def machine() -> str:
    """What process numbers belong to: a boot of a kernel, and a name space of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def take(store: Store, file: Path, mine: dict[str, Any], what: str) -> None:
    """Write the lease. Raises UserError where another run was faster."""
    if store.is_remote:
        write(store, file, mine)
        time.sleep(SETTLE)
        if read(store, file).get("run") != mine["run"]:
            raise UserError(in_use(read(store, file), what))
        return
    try:
        with file.open("x") as new:
            json.dump(mine, new)
    except FileExistsError:
        raise UserError(in_use(read(store, file), what)) from None


def beat(store: Store, file: Path, mine: dict[str, Any], ended: threading.Event, lost: threading.Event) -> None:
    """Renew the lease until the block has ended. Whether the holder lives is told by the count, not by clocks."""
    count = 0
    while not ended.wait(BEAT):
        count += 1
        try:
            if read(store, file).get("run") != mine["run"]:
                lost.set()
                interrupt()
                return
            write(store, file, {**mine, "beat": count})
        except OSError as error:  # the training itself will say so, if it lasts
            log.warning("the lease %s could not be renewed: %s", file, error)


def require_free(store: Store, file: Path, what: str) -> None:
    """Return once nobody alive holds the lease. Raises UserError as soon as its holder shows that it lives."""
    first = read(store, file)
    if not first:
        return
    deadline = time.monotonic() + PATIENCE
    while not is_dead_here(first) and time.monotonic() < deadline:
        time.sleep(0.5)
        now = read(store, file)
        if not now:
            return
        if now != first:
            raise UserError(in_use(now, what))
    if read(store, file) != first:  # somebody else has found it dead, too
        raise UserError(in_use(read(store, file), what))
    log.info("%s: process %s on %s is dead; its work is taken over", what, first.get("process"), first.get("host"))
    store.remove(file)


def in_use(lease: dict[str, Any], what: str) -> str:
    holder = f"process {lease.get('process')} on {lease.get('host')}"
    return f"{what} is being made by another run ({holder}); wait for it to finish, or use another --storage"


def is_dead_here(owner: Mapping[str, Any]) -> bool:
    """Whether a "process" of a "machine" was one of this machine that is no more."""
    if owner.get("machine") != machine():
        return False
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def write(store: Store, file: Path, lease: dict[str, Any]) -> None:
    write_json(file, lease)
    store.push(file)


def read(store: Store, file: Path) -> dict[str, Any]:
    """The lease, empty where there is none."""
    if not store.has(file):
        return {}
    try:
        if store.is_remote:  # not `pull`: two leases of one second and one length look alike
            store.remote.get(store.name(file), file, modified=0)
        return read_json(file)
    except FileNotFoundError:  # given back this moment
        return {}
    except ValueError:  # of a holder that died while it wrote, or is writing
        return {"run": "unknown"}
