"""Object storage behind a local mirror, through pyarrow's file systems."""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from pyarrow import fs

from features.files import replacing
from orchestrator.errors import UserError, require_no_credentials

log = logging.getLogger("stillhouse")
# Seconds that a storage may be out of reach before a run gives up.
patience: ContextVar[float] = ContextVar("patience", default=180.0)


class Remote:
    """The objects below one prefix, named relative to it. An object appears whole or not at all."""

    def __init__(self, uri: str) -> None:
        """Raises UserError where the address cannot be one, OSError where the storage does not answer."""
        require_no_credentials(uri)
        try:
            self.system, self.base = patiently(lambda: fs.FileSystem.from_uri(uri), f"opening {uri}")
        except ValueError as error:
            raise UserError(f"storage {uri} cannot be opened: {first_line(error)}") from None

    def put(self, file: Path, name: str) -> None:
        """Store a file's bytes; the file's time becomes the object's, by which versions are told apart."""
        data = file.read_bytes()

        def write() -> float:
            with self.system.open_output_stream(self.path(name)) as stream:
                stream.write(data)
            return self.system.get_file_info(self.path(name)).mtime_ns / 1e9

        modified = patiently(write, f"writing {name}")
        with suppress(FileNotFoundError):  # replaced or removed meanwhile
            os.utime(file, (modified, modified))

    def get(self, name: str, file: Path, modified: float) -> None:
        """Bring an object into `file`, in one step; the file's time says which version it is."""

        def read() -> bytes:
            with self.system.open_input_stream(self.path(name)) as stream:
                return stream.readall()

        data = patiently(read, f"reading {name}")
        with replacing(file) as temporary:
            temporary.write_bytes(data)
            os.utime(temporary, (modified, modified))

    def listed(self, name: str) -> dict[str, tuple[int, float]]:
        """Every object at or below `name`: name -> (bytes, seconds since 1970)."""

        def look() -> list[fs.FileInfo]:
            info = self.system.get_file_info(self.path(name))
            if info.type == fs.FileType.File:
                return [info]
            return self.system.get_file_info(fs.FileSelector(self.path(name), allow_not_found=True, recursive=True))

        start = len(self.base.rstrip("/")) + 1
        found = {
            info.path[start:]: (info.size, info.mtime_ns / 1e9)
            for info in patiently(look, f"listing {name}")
            if info.type == fs.FileType.File
        }
        astray = [name for name in found if ".." in name.split("/")]
        if astray:  # it would be written outside the mirror
            raise UserError(f"the storage has an object whose name leads out of it: {astray[0]}; remove that")
        return found

    def delete_object(self, name: str) -> None:
        patiently(lambda: self.system.delete_file(self.path(name)), f"removing {name}")

    def path(self, name: str) -> str:
        return f"{self.base.rstrip('/')}/{name}" if name else self.base


def patiently[T](action: Callable[[], T], doing: str) -> T:
    """Try until it works: a storage may be out of reach for a while. Raises OSError when patience is at its end."""
    deadline, pause = time.monotonic() + patience.get(), 0.5
    while True:
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            if time.monotonic() + pause > deadline:
                raise OSError(error.errno or errno.EIO, first_line(error), doing) from None
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
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def mirrors() -> Path:
    """The folder of all mirrors."""
    return Path(os.environ.get("STILLHOUSE_MIRROR") or Path.home() / ".cache" / "stillhouse")


def mirror_of(uri: str) -> Path:
    """Where this machine keeps its copies of a remote storage's files; may be deleted at any time between runs."""
    return mirrors() / hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()
