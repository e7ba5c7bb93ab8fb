"""One run at a time works on a result: a lease in its folder, renewed while the run lives."""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.artifacts import Store, read_json, write_json
from orchestrator.errors import UserError

log = logging.getLogger("stillhouse")
LEASE = "lease.json"
BEAT = 3.0  # seconds between two renewals
PATIENCE = 20.0  # seconds without one after which the holder is dead
SETTLE = 0.5  # seconds after which of two that took a lease at once both see whose it is


@contextmanager
def leased(store: Store, folder: Path, what: str) -> Iterator[None]:
    """Hold the lease of `folder` for the block. Raises UserError where another run is alive and holds it."""
    file = folder / LEASE
    mine = {"run": uuid.uuid4().hex, "host": socket.gethostname(), "process": os.getpid(), "beat": 0}
    require_free(store, file, what)
    take(store, file, mine, what)
    ended = threading.Event()
    beating = threading.Thread(target=beat, args=(store, file, mine, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        store.remove(file)


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


def beat(store: Store, file: Path, mine: dict[str, Any], ended: threading.Event) -> None:
    """Renew the lease until the block has ended. Whether the holder lives is told by the count, not by clocks."""
    while not ended.wait(BEAT):
        mine["beat"] += 1
        try:
            write(store, file, mine)
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
    log.info("%s: process %s on %s is dead; its work is taken over", what, first.get("process"), first.get("host"))
    store.remove(file)


def in_use(lease: dict[str, Any], what: str) -> str:
    holder = f"process {lease.get('process')} on {lease.get('host')}"
    return f"{what} is being made by another run ({holder}); wait for it to finish, or use another --storage"


def is_dead_here(lease: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if lease.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(lease["process"]), 0)
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
        store.pull(file)
        return read_json(file)
    except FileNotFoundError:  # given back this moment
        return {}
    except ValueError:  # of a holder that died while it wrote, or is writing
        return {"run": "unknown"}
