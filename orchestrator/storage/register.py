"""A small JSON file that several processes write in turn, each only where it is as that one has read it.

Compare and swap. In S3 by conditional requests (If-None-Match, If-Match), which the server decides in one step. In a
folder under a lock of the kernel's on a file beside: it ends with its process, and over NFS (4, or 3 with lockd) the
server keeps it for all machines. Where the file system has no such locks (Lustre without `flock`), creation is still
exclusive; a replacement can then meet another one of the same moment.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.caching import lock
from features.files import replacing
from orchestrator.storage.store import Store

LOCK = ".lock"  # at the top of a folder's storage; never removed, for others may be about to lock it


class Register:
    """One such file. A version stands for its content; None for that there is no file."""

    def __init__(self, store: Store, file: Path) -> None:
        self.store, self.file, self.name = store, file, store.name(file)

    def read(self) -> tuple[dict[str, Any], Any]:
        """Value and version; an empty value where there is none. A half-written one counts as another run's."""
        if self.store.is_remote:
            data, version = self.store.remote.read(self.name) or (None, None)
        else:
            data = version = self.bytes()
        try:
            value = {} if data is None else json.loads(data)
        except (ValueError, RecursionError):  # of a process that died while it wrote, or is writing
            value = None
        return value if isinstance(value, dict) else {"run": "unknown"}, version

    def write(self, value: dict[str, Any], version: Any) -> Any | None:
        """Write if the file still has this version. The new version; None where another process was faster."""
        data = json.dumps(value, indent=1).encode()
        if self.store.is_remote:
            return self.store.remote.write(self.name, data, version)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if version is None:
            try:
                with self.file.open("xb") as new:
                    new.write(data)
            except (FileExistsError, FileNotFoundError):  # or another process has just tidied the empty folder away
                return None
            return data
        with self.locked():
            if self.bytes() != version:
                return None
            with replacing(self.file) as temporary:
                temporary.write_bytes(data)
        return data

    def remove(self, value: dict[str, Any], version: Any) -> bool:
        """Remove the file where it is still of this version, with this value; whether it was."""
        if self.store.is_remote:
            # No request removes under a condition. Whoever has just renewed it is not replaced for a while, though.
            is_same = self.write(value, version) is not None
            if is_same:
                self.store.remote.delete([self.name])
            return is_same
        with self.locked():
            is_same = self.bytes() == version
            if is_same:
                self.file.unlink(missing_ok=True)
            return is_same

    def bytes(self) -> bytes | None:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other processes of this machine during the block, where the file system has locks."""
        with (self.store.root / LOCK).open("ab") as file:
            lock(file, fcntl.LOCK_EX)
            yield
