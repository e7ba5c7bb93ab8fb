"""A feature set as one file on each machine that reads it, mapped into memory: its pages are shared by all processes.

The file holds the static channels of some shards, one clip after another, as training reads them. It is made from the
shards where it is first opened, may be removed at any time, and is then made again.
"""

import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate, count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.files import Keeper, local_copies, sync
from features.store import DamagedShard, read_paths, read_static

SUFFIX = ".f16"
READERS = 2  # threads that read shards; more of them cost more memory than they save time
type Progress = Callable[[int, int], None]
BOOT = Path("/proc/sys/kernel/random/boot_id")


def silent(done: int, total: int) -> None:
    """Show no progress."""


def home() -> Path:
    """This machine's folder of maps."""
    return local_copies() / "maps"


@dataclass(frozen=True)
class FeatureMap:
    """The features of some shards. What travels between machines is this description, a few kilobytes."""

    shards: tuple[Path, ...]  # in the order of their rows
    clips: tuple[int, ...]  # of each shard
    shape: tuple[int, int]  # of a clip: (mel, frame)
    keeper: Keeper = field(default_factory=Keeper)  # brings shards to machines that lack them

    @property
    def rows(self) -> int:
        return sum(self.clips)

    @property
    def bytes(self) -> int:
        return 2 * self.rows * self.shape[0] * self.shape[1]

    @property
    def file(self) -> Path:
        """Named after its content, as shards are."""
        content = json.dumps([[shard.name for shard in self.shards], self.shape])
        return home() / (hashlib.blake2b(content.encode(), digest_size=8).hexdigest() + SUFFIX)

    def open(self, progress: Progress = silent) -> NDArray[np.float16]:
        """The static channels (row, mel, frame), read-only, on the file's pages; the file is made where it is missing.

        Processes that open it at once make it once. `progress` is called with the number of rows done and of all.
        Raises DamagedShard, and OSError where the disk has no room.
        """
        if not self.rows:
            return np.empty((0, *self.shape), np.float16)
        while True:
            self.make(progress)
            try:
                with self.file.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH)
                    os.utime(file.fileno())
                    pages = mmap.mmap(file.fileno(), self.bytes, access=mmap.ACCESS_READ)
            except FileNotFoundError:  # another run has made room at this moment
                continue
            return np.frombuffer(pages, np.float16).reshape(self.rows, *self.shape)

    def make(self, progress: Progress = silent) -> None:
        """Make the file where it is missing, or not as large as it should be; go on where a killed process was."""
        if self.is_made():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.file.with_suffix(".lock")):
            if self.is_made():
                return
            part, record = self.file.with_suffix(".part"), self.file.with_suffix(".done")
            done = self.begun(part, record)
            with part.open("r+b") as out, record.open("a") as lines:
                rows = sum(self.clips[index] for index in done)
                progress(rows, self.rows)
                for index in self.copied(out.fileno(), done):
                    lines.write(f"{index}\n")
                    lines.flush()
                    rows += self.clips[index]
                    progress(rows, self.rows)
            sync(part)
            part.rename(self.file)
            record.unlink()

    def is_made(self) -> bool:
        try:
            return self.file.stat().st_size == self.bytes
        except FileNotFoundError:
            return False

    def begun(self, part: Path, record: Path) -> set[int]:
        """The shards whose rows a killed process has left in `part`; without such files, begin them.

        What was written before a power cut is not believed.
        """
        if part.exists() and record.exists() and part.stat().st_size == self.bytes:
            since, *done = record.read_text().split("\n")[:-1] or [""]  # the last line may be cut
            if since == boot():
                return set(map(int, done))
        for file in (record, part):
            file.unlink(missing_ok=True)
        make_room(self.bytes, self.file)
        with part.open("wb") as out:
            out.truncate(self.bytes)
        record.write_text(boot() + "\n")
        return set()

    def copied(self, descriptor: int, done: set[int]) -> Iterator[int]:
        """Copy the rows of the other shards to their places; each shard's index when it is done."""
        first = [0, *accumulate(self.clips)]
        size = 2 * self.shape[0] * self.shape[1]

        def copy(index: int) -> int:
            shard = self.shards[index]
            self.keeper.pull(shard)
            row, end = first[index], first[index + 1]
            for static in read_static(shard, self.shape):
                if row + len(static) <= end:  # else they would be in the place of others
                    write_at(descriptor, static, row * size)
                row += len(static)
            if row != end:
                raise DamagedShard(shard, f"{row - first[index]} clips in place of {self.clips[index]}")
            return index

        left = [index for index, clips in enumerate(self.clips) if clips and index not in done]
        pool = ThreadPoolExecutor(READERS)
        try:
            yield from pool.map(copy, left)
        finally:
            pool.shutdown(cancel_futures=True)


def locate(
    groups: Sequence[Sequence[Path]],
    shape: tuple[int, int],
    keeper: Keeper = Keeper(),  # noqa: B008 - it has no state
) -> tuple[FeatureMap, list[dict[str, int]]]:
    """The map of several groups of shards, and each group's clips in it: path -> row. Raises DamagedShard."""
    paths = [[read_paths(shard) for shard in group] for group in groups]
    row = count()
    rows = [{path: next(row) for shard in group for path in shard} for group in paths]
    clips = tuple(len(shard) for group in paths for shard in group)
    return FeatureMap(tuple(shard for group in groups for shard in group), clips, shape, keeper), rows


def write_at(descriptor: int, values: NDArray[np.float16], offset: int) -> None:
    """Write all of it: a single call may write a part."""
    rest = memoryview(np.ascontiguousarray(values)).cast("B")
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def boot() -> str:
    """Stands for the time since the machine was started."""
    return BOOT.read_text().strip() if BOOT.exists() else ""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds the lock, and hold it for the block. Goes with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_room(size: int, wanted: Path) -> None:
    """Remove maps that nobody has open, those first that were not opened for longest, until `size` bytes are free.

    Raises OSError where too few are.
    """
    folder = wanted.parent
    for file in by_last_use(folder, f"*{SUFFIX}"):
        if shutil.disk_usage(folder).free >= size:
            return
        remove_unused(file)
    if shutil.disk_usage(folder).free < size:
        advice = f"the features need {size / 1e9:.1f} GB there; make room, or set STILLHOUSE_MIRROR to another folder"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {advice}", str(folder))


def remove_idle(seconds: float) -> None:
    """Remove maps that nobody has opened for so long, and what killed processes have left of others."""
    for file, used in by_last_use(home()).items():
        if time.time() - used > seconds:
            remove_unused(file)


def by_last_use(folder: Path, pattern: str = "*") -> dict[Path, float]:
    """Files in the folder of maps, and when they were opened or written last, in that order."""
    times = {}
    for file in folder.glob(pattern):
        with suppress(FileNotFoundError):
            times[file] = file.stat().st_mtime
    return dict(sorted(times.items(), key=lambda item: item[1]))


def remove_unused(file: Path) -> bool:
    """Remove a map unless a process has it open; whether it is gone."""
    with suppress(OSError), file.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
        return True
    return not file.exists()
