"""Waiting for what a test means, however busy the machine is."""

import time
from collections.abc import Callable

LONG = 600.0  # seconds after which a test gives up


def wait_for(sign: Callable[[], object], what: str = "it", seconds: float = LONG) -> None:
    """Return once `sign` is true. `seconds` later the test fails: it never comes."""
    deadline = time.monotonic() + seconds
    while not sign():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
