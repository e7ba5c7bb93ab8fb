"""Leases of this process's and of other runs', for the tests of what holds them."""

from pathlib import Path
from typing import Any

from orchestrator.storage.lease import LEASE
from orchestrator.storage.owner import this_process
from orchestrator.storage.register import Register
from orchestrator.storage.store import Store
from tests.waiting import wait_for

GONE = {**this_process(), "begun": -1}  # the number is another process's now


def held(store: Store, folder: Path) -> dict[str, Any]:
    return Register(store, folder / LEASE).read()[0]


def write(store: Store, folder: Path, **about: object) -> None:
    """A lease that another run has written, whatever there was before."""
    register = Register(store, folder / LEASE)
    value = {"run": "x", "job": "job raysubmit_1", "user": "na", "host": "spot-7", "machine": "another", "process": 17}
    value |= {"started": "2026-11-28T05:00:00+00:00", "beat": 3, **about}
    wait_for(lambda: register.write(value, register.read()[1]) is not None)
