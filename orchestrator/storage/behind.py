"""Writes that the caller does not wait for: the driver goes on while a distant storage answers."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

WRITES = 16  # at once


class Behind:
    """Writes in other threads; those under one name in the order in which they were given."""

    def __init__(self) -> None:
        self.last: dict[str, Future[None]] = {}

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(WRITES, "write")

    def write(self, name: str, action: Callable[[], None]) -> None:
        """Do it soon. Raises what an earlier write has failed with: nobody else would notice."""
        self.check()
        before = self.last.get(name)

        def act() -> None:
            if before is not None:
                before.result()  # it was begun earlier, so it does not wait for a thread
            action()

        self.last[name] = self.pool.submit(act)

    def check(self) -> None:
        """Raises what a write has failed with."""
        for name in [name for name, write in self.last.items() if write.done()]:
            self.last.pop(name).result()

    def finish(self) -> None:
        """Wait until everything is written. Raises what a write has failed with; what was not begun is left out."""
        try:
            for write in self.last.values():
                write.result()
        finally:
            self.last.clear()
            self.pool.shutdown(cancel_futures=True)
            del self.pool
