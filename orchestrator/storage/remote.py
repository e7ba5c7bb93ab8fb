"""Objects in S3 behind a local mirror: several transfers at once, one request each, and conditional writes."""

import errno
import hashlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import S3Store

from features.files import local_copies, replacing
from orchestrator.errors import UserError
from orchestrator.storage.address import parse, presentable, way_to

log = logging.getLogger("stillhouse")
# Seconds that a storage may be out of reach before a run gives up.
patience: ContextVar[float] = ContextVar("patience", default=180.0)
TRANSFERS = 32  # at once: a distant server takes its time for each
LARGE, LARGE_ONES = 5_000_000, 8  # bytes of an object that is sent in parts, and how many of these at once
PARTS = 4  # of one large object at once, LARGE bytes each
TIMEOUT, HURRIED_TIMEOUT = 300, 10  # seconds of one request
SLOW, AGAIN = 5.0, 300.0  # seconds: an answer that is worth a remark, and the pause until the next one
SECOND = 10**9  # nanoseconds
FILE = re.compile(r"\.[a-z][a-z0-9]*$")  # a name that is most likely an object's, not a folder's
# Of this machine's disk: no patience helps.
LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG)


class Remote:
    """The objects below one prefix, named relative to it. An object appears whole or not at all."""

    def __init__(self, uri: str) -> None:
        """Raises UserError where the address cannot be one, OSError where the storage does not answer."""
        self.bucket, self.prefix, config = patiently(lambda: parse(uri), f"opening {presentable(uri)}")
        self.way = way_to(config.get("endpoint"))
        self.large = BoundedSemaphore(LARGE_ONES)
        single = config | {"disable_bulk_delete": True}
        self.clients = {timeout: self.client(single, timeout) for timeout in (TIMEOUT, HURRIED_TIMEOUT)}
        self.bulk = self.client(config, TIMEOUT)
        self.remarked = -math.inf

    def client(self, config: dict[str, Any], timeout: int) -> S3Store:
        """A client of the bucket whose requests give up after `timeout` seconds."""
        return S3Store(
            self.bucket,
            prefix=self.prefix or None,
            config=config,  # pyright: ignore[reportArgumentType] - a TypedDict that cannot be imported
            client_options={"allow_http": config.get("endpoint", "").startswith("http:"), "timeout": f"{timeout}s"},
            retry_config={"max_retries": 0},  # `patiently` retries, and logs it
        )

    @property
    def now(self) -> S3Store:
        """The client for the caller's patience."""
        return self.clients[TIMEOUT if patience.get() else HURRIED_TIMEOUT]

    def put(self, files: dict[str, Path]) -> None:
        """Upload files by object name, several at once. Each file is marked with the version that it is uploaded as."""

        def write(client: S3Store, name: str) -> None:
            with self.place(files[name].stat().st_size):
                done = obstore.put(client, name, files[name], max_concurrency=PARTS)
            with suppress(FileNotFoundError):  # replaced or removed meanwhile
                mark(files[name], done["e_tag"])

        self.transfer(write, files, "writing")

    def get(self, files: dict[str, Path]) -> None:
        """Download objects, each into its file in one step. Raises FileNotFoundError where one is gone."""

        def read(client: S3Store, name: str) -> None:
            found = obstore.get(client, name)
            with self.place(found.meta["size"]), replacing(files[name]) as temporary:
                with temporary.open("wb") as file:
                    for part in found:
                        file.write(part)
                mark(temporary, found.meta["e_tag"])

        self.transfer(read, files, "reading")

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, whether they are there or not: a thousand in a request, or each by itself. Raises OSError."""
        left = list(names)
        if len(left) > 1 and patience.get():
            try:
                with as_os_errors():
                    return obstore.delete(self.bulk, left)
            except OSError as error:  # Google's server, for one, has no such request
                log.info("%d objects are removed one by one: %s", len(left), first_line(error))
        self.transfer(lambda client, name: obstore.delete(client, name), left, "removing")

    def place(self, size: int) -> AbstractContextManager[Any]:
        """What a transfer of so many bytes holds: of large ones, which are held in memory in parts, there are few."""
        return self.large if size > LARGE else nullcontext()

    def transfer(self, action: Callable[[S3Store, str], None], names: Iterable[str], doing: str) -> None:
        """Do it for every object, in no order. After a failure only what is left is tried again, by this thread."""
        left = list(names)
        if not left:
            return

        def attempt() -> None:
            def act(name: str, client: S3Store = self.now) -> None:
                with as_os_errors():
                    action(client, name)

            if len(left) == 1:
                act(left[0])
                return
            with ThreadPoolExecutor(min(TRANSFERS, len(left))) as pool:
                running = [(name, pool.submit(act, name)) for name in left]
                try:
                    wait([future for _, future in running], return_when=FIRST_EXCEPTION)
                finally:
                    pool.shutdown(wait=False, cancel_futures=True)
            left[:] = [name for name, future in running if future.cancelled() or future.exception()]
            for _, future in running:
                if not future.cancelled():
                    future.result()

        patiently(attempt, f"{doing} {left[0]}" + f" and {len(left) - 1} more" * (len(left) > 1) + self.way)

    def ask[T](self, action: Callable[[], T], doing: str) -> T:
        """Do one small request patiently, and say now and then that its answers are slow. Raises OSError."""

        def timed() -> T:
            started = time.monotonic()
            answer = action()
            seconds = time.monotonic() - started
            if seconds >= SLOW and started - self.remarked >= AGAIN:
                self.remarked = started
                log.warning(
                    "storage: %s took %.0f s: the network or the server is slow, and with it what uses this storage",
                    doing + self.way,
                    seconds,
                )
            return answer

        return patiently(timed, doing + self.way)

    def listed(self, name: str) -> dict[str, tuple[int, str]]:
        """Every object at or below `name`: name -> (bytes, version)."""

        def head() -> list[Any]:
            with suppress(FileNotFoundError):
                return [obstore.head(self.now, name)] if name else []
            return []

        def below() -> list[Any]:
            return list(obstore.list(self.now, name or None).collect())

        def look() -> list[Any]:
            first, second = (head, below) if FILE.search(name) else (below, head)
            with as_os_errors():
                return first() or second()

        entries = self.ask(look, f"listing {name}")
        found = {entry["path"]: (entry["size"], str(entry["e_tag"])) for entry in entries}
        return {path: facts for path, facts in found.items() if facts[0] or is_file(path)}

    def folders(self) -> list[str]:
        """The names at the top that have objects below them."""

        def look() -> list[str]:
            with as_os_errors():
                return list(obstore.list_with_delimiter(self.now)["common_prefixes"])

        return sorted(self.ask(look, "listing the storage"))

    def read(self, name: str) -> tuple[bytes, Any] | None:
        """An object's bytes and its version for `write`; None where there is none."""

        def look() -> tuple[bytes, Any] | None:
            with as_os_errors(), suppress(FileNotFoundError):
                found = obstore.get(self.now, name)
                return bytes(found.bytes()), version_of(found.meta)
            return None

        return self.ask(look, f"reading {name}")

    def write(self, name: str, data: bytes, version: Any | None) -> Any | None:
        """Replace an object where it still has this version, or create it where that is None; its new version.

        None where another one was faster. After a lost answer that may have been this very call: `read` shows it.
        """

        def attempt() -> Any | None:
            with as_os_errors(), suppress(AlreadyExistsError, PreconditionError):
                return version_of(obstore.put(self.now, name, data, mode=version or "create"))
            return None

        return self.ask(attempt, f"writing {name}")


def version_of(facts: Any) -> dict[str, str]:
    """An object's version, for a conditional request."""
    return {name: facts[name] for name in ("e_tag", "version") if facts[name] is not None}


def is_file(name: str) -> bool:
    """Whether an empty object may be a file of ours: consoles and other clients mark folders with such objects."""
    return "." in name.rpartition("/")[2]


def mark(file: Path, e_tag: str | None) -> None:
    """Keep an object's version with its copy: in the nanoseconds of the file's time, which a local change changes."""
    at = time.time_ns() // SECOND * SECOND + fraction_of(str(e_tag))
    os.utime(file, ns=(at, at))


def is_version(file: Path, size: int, version: str) -> bool:
    """Whether a file is a copy of this version of its object."""
    try:
        facts = file.stat()
    except FileNotFoundError:
        return False
    return (facts.st_size, facts.st_mtime_ns % SECOND) == (size, fraction_of(version))


def fraction_of(version: str) -> int:
    return int.from_bytes(hashlib.blake2b(version.encode(), digest_size=8).digest()) % SECOND


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Raise OSError in place of the client's own errors, but not of those that a condition was not met."""
    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except InvalidPathError as error:  # it would be written outside the mirror
        name = re.search(r'path:? "([^"]*)"', str(error), re.IGNORECASE)
        raise UserError(
            f"the storage has an object whose name leads out of it: {name[1] if name else error}; remove that"
        ) from None
    except BaseError as error:
        raise OSError(errno.EIO, reason_of(error)) from None
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, reason_of(error)) from None


def reason_of(error: BaseException) -> str:
    """The server's message, or else the client's, in one line."""
    message = re.search(r"<Message>(.*?)</Message>", str(error), re.DOTALL)
    return message[1] if message else first_line(error)


def patiently[T](action: Callable[[], T], doing: str) -> T:
    """Try until it works: a storage may be out of reach for a while. Raises OSError when patience is at its end."""
    deadline, pause = time.monotonic() + patience.get(), 0.5
    while True:
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in LOCAL:
                raise
            if time.monotonic() + pause > deadline:
                raise OSError(error.errno or errno.EIO, error.strerror or first_line(error), doing) from None
            log.warning("storage: %s: %s; again in %.1f s", doing, first_line(error), pause)
            time.sleep(pause)
            pause = min(2 * pause, 15.0)


@contextmanager
def hurried() -> Iterator[None]:
    """One try is enough for the block: what is at stake is a quick answer, or a clean-up."""
    token = patience.set(0.0)
    try:
        yield
    finally:
        patience.reset(token)


def first_line(error: BaseException) -> str:
    """The first line of an error, which may have many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def mirror_of(uri: str) -> Path:
    """Where this machine keeps its copies of a remote storage's files; may be deleted at any time between runs."""
    return local_copies() / hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()
