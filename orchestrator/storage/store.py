"""Finished results, kept under a key of what made them: a folder each, published whole or not at all.

Only formats that load without running code: JSON, Parquet, safetensors.
"""

import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from features.files import Keeper, sync, sync_all
from orchestrator.errors import UserError
from orchestrator.storage.address import presentable
from orchestrator.storage.remote import Remote, first_line, hurried, is_version, mirror_of
from orchestrator.storage.seal import damage_of, seal

log = logging.getLogger("stillhouse")
NEARLY = re.compile(r"[a-z][a-z0-9]+:(/[^/]|/?$)")  # an address that lacks a slash
STAGE = "stage.json"  # what made an artifact: the last file of it to be written
RESULTS = "results.json"  # of a run, likewise
LAST = (STAGE, RESULTS)
LEASE = "lease.json"  # never travels with other files: it is written under a condition (register.py)


type Wanted = Callable[[Path], bool]  # whether a file is to be transferred


def everything(_file: Path) -> bool:
    """Leaves no file out."""
    return True


class Store(Keeper):
    """Artifacts and work in progress below one storage: a folder, or s3://bucket/prefix behind a local mirror.

    All paths are below `root`, the folder itself or the mirror; `push` and `pull` keep the mirror and the storage alike
    and do nothing for a folder. Every node that is given a Store opens the storage by itself.
    """

    tell: Callable[[str], None] = staticmethod(log.warning)  # shows a line; a run's terminal takes its place

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        if not self.uri or NEARLY.match(self.uri):
            raise UserError(f"storage {presentable(self.uri)!r} cannot be opened: give a folder or s3://bucket/prefix")
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
        return {name: value for name, value in vars(self).items() if name not in ("remote", "tell")}

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
        is_guarded = True
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"probe")
            with hurried():
                self.push(probe)
                if self.is_remote:
                    is_guarded = self.remote.write(probe.name, b"probe", None) is None
                self.remove(probe)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise UserError(f"storage {self.uri} cannot be written: {reason}; choose another --storage") from None
        if not is_guarded:
            raise UserError(
                f"storage {self.uri} overwrites an object that was to be created only where there is none "
                f"(If-None-Match), which keeps two runs from one result; choose another --storage"
            )

    @property
    def shards(self) -> Path:
        """Feature shards are named after their content, so all feature sets share one folder."""
        return self.root / "shards"

    def has(self, path: Path) -> bool:
        """Whether a file is in the storage."""
        return bool(self.remote.listed(self.name(path))) if self.is_remote else path.exists()

    def read(self, path: Path) -> bytes | None:
        """A file as the storage has it, not the mirror; None where there is none."""
        if self.is_remote:
            found = self.remote.read(self.name(path))
            return None if found is None else found[0]
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def push(self, path: Path, wanted: Wanted = everything) -> None:
        """Upload a file, or the wanted ones below a folder; the files that mark it as finished last."""
        if not self.is_remote:
            return
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and wanted(file)]
        names = {self.name(file): file for file in files if not file.name.startswith(".") and file.name != LEASE}
        for part in (others(names), finals(names)):
            self.remote.put({name: names[name] for name in part})

    def pull(self, path: Path, exactly: bool = False, wanted: Wanted = everything) -> None:
        """Download the wanted files at or below `path` that the mirror lacks, or has in another version.

        With `exactly`, also remove from the mirror what the storage does not have.
        """
        if not self.is_remote:
            return
        there = self.remote.listed(self.name(path))
        if exactly:
            for file in path.rglob("*"):
                if file.is_file() and self.name(file) not in there:
                    file.unlink(missing_ok=True)
        files = {name: self.root / name for name in there if name.rpartition("/")[2] != LEASE}
        stale = {name: file for name, file in files.items() if wanted(file) and not is_version(file, *there[name])}
        for part in (others(stale), finals(stale)):
            self.remote.get({name: stale[name] for name in part})

    def pull_again(self, path: Path) -> bool:
        """Put the storage's file in the place of the mirror's, which is damaged; whether there is one."""
        if self.is_remote:
            path.unlink(missing_ok=True)
            self.pull(path)
        return self.is_remote and path.exists()

    def remove(self, path: Path, keep: str = "") -> None:
        """Remove a file or a folder, but not its file `keep`; the files that mark it as finished first."""
        if self.is_remote:
            names = [name for name in self.remote.listed(self.name(path)) if name != f"{self.name(path)}/{keep}"]
            for part in (finals(names), others(names)):
                self.remote.delete(part)
        is_folder = path.is_dir() and not path.is_symlink()  # what a link leads to is not the storage's
        for file in [path / name for name in LAST] if is_folder else [path]:
            file.unlink(missing_ok=True)
        for part in path.iterdir() if is_folder else ():
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            elif part.name != keep:
                part.unlink(missing_ok=True)
        if is_folder and not keep:
            path.rmdir()

    def folders(self) -> list[str]:
        """Names of the folders at the top: runs, and what they share."""
        if self.is_remote:
            return self.remote.folders()
        return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir()) if self.root.is_dir() else []

    def sizes(self) -> dict[str, int]:
        """Everything in the storage: name -> bytes. What vanishes meanwhile does not count: others are at work."""
        if self.is_remote:
            return {name: size for name, (size, _) in self.remote.listed("").items()}
        found = {}
        for place, _, names in os.walk(self.root):
            for file in (Path(place) / name for name in names):
                with suppress(FileNotFoundError):
                    found[self.name(file)] = file.lstat().st_size  # of a link itself
        return found

    def finished(self, kind: str, key: str) -> Path | None:
        """The folder of a finished artifact, downloaded; None where it is not finished.

        One that is damaged, as after a power cut, is removed with a line, so that it is made again.
        """
        folder = self.root / "artifacts" / kind / key
        if not self.has(folder / STAGE):
            return None
        try:
            self.pull(folder)
            damage = damage_of(folder, STAGE)
            if damage and self.is_remote:  # perhaps the mirror's copy alone
                shutil.rmtree(folder, ignore_errors=True)
                self.pull(folder)
                damage = damage_of(folder, STAGE)
        except FileNotFoundError:  # another run has just removed it
            return None
        if damage is None:
            return folder
        self.tell(f"  the artifact {self.name(folder)} is damaged and is made again: {damage}")
        self.remove(folder)
        return None

    @contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Path]:
        """Yield a folder to fill; on success it becomes the artifact in one step."""
        target = self.root / "artifacts" / kind / key
        target.parent.mkdir(parents=True, exist_ok=True)
        folder, gone = (target.with_name(f".{key}.{uuid.uuid4().hex}.tmp") for _ in range(2))
        folder.mkdir()
        try:
            yield folder
            seal(folder, STAGE)
            sync_all(folder)
            if self.finished(kind, key) is not None:  # by another run, whose result is the same
                return
            if target.exists():  # of a run that was killed while it published or removed it
                target.rename(gone)
            folder.rename(target)
            sync(target.parent)
            self.push(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(gone, ignore_errors=True)


def finals(names: Iterable[str]) -> list[str]:
    """Of objects, those that mark an artifact as finished."""
    return [name for name in names if name.rpartition("/")[2] in LAST]


def others(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.rpartition("/")[2] not in LAST]
