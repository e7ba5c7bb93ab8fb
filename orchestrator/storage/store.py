"""Finished results, kept under a key of what made them: a folder each, published whole or not at all.

Only formats that load without running code: JSON, Parquet, safetensors.
"""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from features.files import Keeper
from orchestrator.errors import UserError
from orchestrator.storage.remote import Remote, first_line, hurried, mirror_of

STAGE = "stage.json"  # what made an artifact: the last file of it to be written
RESULTS = "results.json"  # of a run, likewise
LAST = (STAGE, RESULTS)


class Store(Keeper):
    """Artifacts and work in progress below one storage: a folder, or s3://bucket/prefix behind a local mirror.

    All paths are below `root`, the folder itself or the mirror; `push` and `pull` keep the mirror and the storage alike
    and do nothing for a folder. Every node that is given a Store opens the storage by itself.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        self.is_remote = "://" in self.uri
        if self.is_remote:
            self.uri = self.uri.rstrip("/")
            self.root = mirror_of(self.uri)
        else:
            self.root = Path(uri).resolve()
            self.uri = str(self.root)

    @cached_property
    def remote(self) -> Remote:
        return Remote(self.uri)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "remote"}

    def name(self, path: Path) -> str:
        """A path below the root as the storage names it; the root itself has no name."""
        return "" if path == self.root else path.relative_to(self.root).as_posix()

    def address(self, path: Path) -> str:
        """Where a person finds `path`."""
        place, _, query = self.uri.partition("?")
        return f"{place}/{self.name(path)}{'?' * bool(query)}{query}" if self.is_remote else str(path)

    def check_writable(self) -> None:
        """Raises UserError where nothing can be written."""
        probe = self.root / f"probe-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"probe")
            with hurried():
                self.push(probe)
                self.remove(probe)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise UserError(f"storage {self.uri} cannot be written: {reason}; choose another --storage") from None

    @property
    def shards(self) -> Path:
        """Feature shards are named after their content, so all feature sets share one folder."""
        return self.root / "shards"

    def has(self, path: Path) -> bool:
        """Whether a file is in the storage."""
        return bool(self.remote.listed(self.name(path))) if self.is_remote else path.exists()

    def push(self, path: Path) -> None:
        """Bring a file, or everything below a folder, into the storage; what says "finished" last."""
        if not self.is_remote:
            return
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: (file.name in LAST, file)):
            if not file.name.startswith("."):
                self.remote.put(file, self.name(file))

    def pull(self, path: Path, exactly: bool = False) -> None:
        """Bring what is at or below `path` in the storage into the mirror, where that has it not or otherwise.

        `exactly`: and remove from the mirror what the storage does not have.
        """
        if not self.is_remote:
            return
        there = self.remote.listed(self.name(path))
        if exactly:
            for file in path.rglob("*"):
                if file.is_file() and self.name(file) not in there:
                    file.unlink(missing_ok=True)
        for name in sorted(there, key=lambda name: (name.rpartition("/")[2] in LAST, name)):
            file, (size, modified) = self.root / name, there[name]
            if not file.exists() or (file.stat().st_size, file.stat().st_mtime) != (size, modified):
                self.remote.get(name, file, modified)

    def remove(self, path: Path, keep: str = "") -> None:
        """Remove a file, or a folder, all but its file `keep`; if they are there. What says "finished" goes first."""
        if self.is_remote:
            names = [name for name in self.remote.listed(self.name(path)) if name != f"{self.name(path)}/{keep}"]
            for name in sorted(names, key=lambda name: name.rpartition("/")[2] not in LAST):
                self.remote.delete_object(name)
        for file in [path / name for name in LAST] if path.is_dir() else [path]:
            file.unlink(missing_ok=True)
        for part in path.iterdir() if path.is_dir() else ():
            if part.is_dir():
                shutil.rmtree(part)
            elif part.name != keep:
                part.unlink(missing_ok=True)
        if path.is_dir() and not keep:
            path.rmdir()

    def sizes(self) -> dict[str, int]:
        """Everything in the storage: name -> bytes."""
        if self.is_remote:
            return {name: size for name, (size, _) in self.remote.listed("").items()}
        return {self.name(file): file.stat().st_size for file in self.root.rglob("*") if file.is_file()}

    def finished(self, kind: str, key: str) -> Path | None:
        folder = self.root / "artifacts" / kind / key
        if not self.has(folder / STAGE):
            return None
        self.pull(folder)
        return folder

    @contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Path]:
        """Yield a folder to fill; on success it becomes the artifact in one step."""
        target = self.root / "artifacts" / kind / key
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{key}.{uuid.uuid4().hex}.tmp")
        folder.mkdir()
        try:
            yield folder
            if self.finished(kind, key) is not None:  # by another run, whose result is the same
                return
            if target.exists():  # of a run that was killed while it published or removed it
                shutil.rmtree(target)
            folder.rename(target)
            self.push(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
