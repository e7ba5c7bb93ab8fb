"""A feature set as one file on each machine that reads it, mapped into memory: its pages are shared by all processes.

The file holds the static channels of some shards, one clip after another, as training reads them. It is made from the
shards where it is first opened, may be removed at any time, and is then made again.
"""

import fcntl
import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.caching import LOCKS, allocated, is_at, lock, locked, make_room, map_folder
from features.files import Keeper, replacing
from features.store import DamagedShard, read_paths, read_static

SUFFIX = ".f16"
READERS = 2  # threads that read shards; more of them cost more memory than they save time
type Progress = Callable[[int, int], None]
BOOT = Path("/proc/sys/kernel/random/boot_id")


def silent(done: int, total: int) -> None:
    """Show no progress."""


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
        return map_folder() / (hashlib.blake2b(content.encode(), digest_size=8).hexdigest() + SUFFIX)

    def open(self, progress: Progress = silent) -> NDArray[np.float16]:
        """The static channels (row, mel, frame), read-only, on the file's pages; the file is made where it is missing.

        Processes that open it at once make it once. `progress` is called with the number of rows done and of all.
        Raises DamagedShard, and OSError where the disk has no room.
        """
        if not self.rows:
            return np.empty((0, *self.shape), np.float16)
        while True:
            self.make(progress)
            with suppress(FileNotFoundError), self.file.open("rb") as file:  # or it was removed at this moment
                lock(file, fcntl.LOCK_SH)
                with suppress(PermissionError):  # another user's
                    os.utime(file.fileno())
                pages = mmap.mmap(file.fileno(), self.bytes, access=mmap.ACCESS_READ)
                return np.frombuffer(pages, np.float16).reshape(self.rows, *self.shape)

    def make(self, progress: Progress = silent) -> None:
        """Make the file where it is missing, or not as large as it should be; go on where a killed process was."""
        while self.rows and not self.is_made():
            with locked(self.file.with_suffix(LOCKS)):
                if not self.is_made():
                    try:
                        self.fill(progress)
                    except OSError as error:
                        if error.errno and not error.filename:  # a storage's own errors have a text alone
                            error.filename = str(self.file)
                        raise

    def fill(self, progress: Progress) -> None:
        """Copy what is missing into the part and give it its name, unless somebody has removed it meanwhile."""
        part, record = self.file.with_suffix(".part"), self.file.with_suffix(".done")
        done = self.begun(part, record)
        with part.open("r+b") as out, record.open("a") as lines:
            lock(out, fcntl.LOCK_SH)
            rows = sum(self.clips[index] for index in done)
            progress(rows, self.rows)
            for index in self.copied(out.fileno(), done):
                lines.write(f"{index}\n")
                lines.flush()
                rows += self.clips[index]
                progress(rows, self.rows)
            os.fsync(out.fileno())
            if is_at(out, part):
                part.rename(self.file)
                record.unlink(missing_ok=True)

    def is_made(self) -> bool:
        try:
            return self.file.stat().st_size == self.bytes
        except FileNotFoundError:
            return False

    def begun(self, part: Path, record: Path) -> set[int]:
        """The shards whose rows a killed process has left in `part`; without such files, begin them.

        What was written before a power cut is not believed.
        """
        done: set[int] = set()
        if part.exists() and record.exists() and part.stat().st_size == self.bytes:
            since, *lines = record.read_text().split("\n")[:-1] or [""]  # the last line may be cut
            done = set(map(int, lines)) if since and since == boot() else done
        if not done:
            for file in (record, part):
                file.unlink(missing_ok=True)
        make_room(self.bytes - allocated(part), part)
        with part.open("ab") as out:
            if hasattr(os, "posix_fallocate"):  # so that nobody else takes the room meanwhile
                os.posix_fallocate(out.fileno(), 0, self.bytes)
            else:
                out.truncate(self.bytes)
        with replacing(record) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in (boot(), *sorted(done))))
        return done

    def copied(self, descriptor: int, done: set[int]) -> Iterator[int]:
        """Copy the rows of the other shards to their places; each shard's index when it is done."""
        first = [0, *accumulate(self.clips)]

        def copy(index: int) -> int:
            shard = self.shards[index]
            self.keeper.pull(shard)
            try:
                self.copy_shard(descriptor, index, first[index])
            except DamagedShard:
                if not self.keeper.pull_again(shard):
                    raise
                self.copy_shard(descriptor, index, first[index])
            return index

        left = [index for index, clips in enumerate(self.clips) if clips and index not in done]
        pool = ThreadPoolExecutor(READERS)
        try:
            yield from pool.map(copy, left)
        finally:
            pool.shutdown(cancel_futures=True)

    def copy_shard(self, descriptor: int, index: int, row: int) -> None:
        """Copy a shard's clips to the rows from `row` on. Raises DamagedShard."""
        shard, end, size = self.shards[index], row + self.clips[index], 2 * self.shape[0] * self.shape[1]
        clips = 0
        for static in read_static(shard, self.shape):
            if row + clips + len(static) <= end:  # else they would be in the place of others
                write_at(descriptor, static, (row + clips) * size)
            clips += len(static)
        if clips != self.clips[index]:
            raise DamagedShard(shard, f"{clips} clips in place of {self.clips[index]}")


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
    """Stands for the time since the machine was started; empty where the system does not say."""
    return BOOT.read_text().strip() if BOOT.exists() else ""
