"""Shards of the features: what each is computed from, its name, and its computation.

A shard's name covers whatever can change its content, so that a rerun computes only what is missing.
"""

import errno
import hashlib
import importlib.metadata
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from features.audio import BadAudio, Recording, read
from features.copies import Copy
from features.corpus import Clip, CorpusError
from features.files import Keeper
from features.frontend import static_channel
from features.settings import FrontEnd
from features.spectrum import Responses, corrected
from features.store import Shard, is_whole, write_shard

CLIPS_PER_SHARD = 128


@dataclass(frozen=True)
class ShardJob:
    """What every shard of a feature set is computed from."""

    root: Path
    front_end: FrontEnd
    folder: Path
    copy: Copy | None
    partners: dict[str, str]
    correction: Responses | None = None  # recordings of the devices in it are made to sound as the reference's
    devices: Mapping[str, str] = field(default_factory=dict)  # path -> device, for the correction
    keeper: Keeper = field(default_factory=Keeper)
    absent: frozenset[str] = frozenset()  # paths of files that were not there when the shards were planned
    libraries: Mapping[str, str] = field(default_factory=lambda: libraries())  # of the process that planned the shards
    code: str = ""  # digest of the code that computes shards: part of their names

    def require_libraries(self) -> None:
        """Raise CorpusError on a node whose libraries are not those that the shards are named after."""
        for name, version in libraries().items():
            if version != self.libraries[name]:
                raise CorpusError(
                    f"node {socket.gethostname()} has {name} {version}, the driver {self.libraries[name]}: install the "
                    f"same version on every node"
                )

    def require(self, path: str) -> None:
        """Raise OSError where a file that was there is not: the place is out of reach, the clip is not at fault."""
        file = self.root / path
        if path not in self.absent and not file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))

    def read(self, path: str) -> Recording:
        """The clip itself, corrected. Raises BadAudio, and OSError where not the clip is at fault."""
        self.require(path)
        try:
            recording = read(self.root / path, self.front_end.sample_rate, self.front_end.clip_seconds)
        except OSError as error:  # of this machine: which recording it was is to be known
            raise OSError(error.errno, error.strerror, error.filename or str(self.root / path)) from None
        device = self.devices.get(path, "")
        if self.correction is None or device not in self.correction.of:
            return recording
        return replace(recording, samples=corrected(recording.samples, self.correction.of[device]))

    def recording(self, path: str) -> Recording:
        """The clip, or its copy. Raises BadAudio."""
        recording = self.read(path)
        if self.copy is None:
            return recording
        partner = recording
        if path in self.partners:
            other = self.partners[path]
            try:
                partner = self.read(other)
            except BadAudio as error:
                raise BadAudio(f"{other}, to be mixed with it: {error}") from None
        samples = self.copy.of(path, recording.samples, partner.samples)
        return replace(recording, samples=samples)


def compute_shard(job: ShardJob, paths: Sequence[str], name: str) -> None:
    """Compute and write one shard: the thing a Ray task does, and all of it."""
    torch.set_num_threads(1)
    rows, kept, digests, notes, quarantine = [], [], [], [], {}
    for path in paths:
        try:
            recording = job.recording(path)
        except BadAudio as error:
            quarantine[path] = str(error)
            continue
        rows.append(static_channel(torch.from_numpy(recording.samples), job.front_end).half().numpy())
        kept.append(path)
        digests.append(recording.digest)
        notes.append("; ".join(recording.notes))
    shape = (job.front_end.n_mels, job.front_end.frames)
    static = np.stack(rows) if rows else np.empty((0, *shape), np.float16)
    write_shard(job.folder / name, Shard(kept, digests, notes, static, quarantine))
    job.keeper.push(job.folder / name)


def plan_shards(job: ShardJob, clips: Sequence[Clip]) -> dict[str, list[str]]:
    """Shard file name -> the paths in it.

    A clip's shard follows from its path and the number of shards, a power of two, so that an added or
    changed file renames one shard, not all after it. The name covers what can change the content: settings,
    paths, each file's stamp, the device it is corrected by, how a copy differs, and libraries.
    """
    count = 1
    while count * CLIPS_PER_SHARD < len(clips):
        count *= 2
    members: dict[int, list[str]] = {}
    for clip in clips:
        members.setdefault(int(digest_of(clip.path), 16) % count, []).append(clip.path)
    plan = {}
    for paths in members.values():
        files = paths + [job.partners[path] for path in paths if path in job.partners]
        stamps = [(path, *stamp(job.root / path), job.devices.get(path, "")) for path in files]
        plan[f"{digest_of(job.code, *definition(job), dict(job.libraries), stamps)}.parquet"] = paths
    return plan


@cache
def libraries() -> dict[str, str]:
    """Versions of what decodes, resamples and transforms: a shard of others is computed again, not mixed in."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "soundfile", "soxr", "torch", "torchaudio")}


def stamp(file: Path) -> tuple[int, ...]:
    """What changes when a file does: size and time of modification, and of two files that change places the inode.

    The time of a status change is of the file system alone: nobody sets it back. A file that has vanished has none of
    them, and goes to quarantine when it is read.
    """
    try:
        status = file.stat()
    except OSError:
        return (0,)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_finished(job: ShardJob, name: str) -> bool:
    """Whether a shard is there, and whole; one that is not is removed."""
    file = job.folder / name
    if not job.keeper.has(file):
        return False
    job.keeper.pull(file)
    values = job.front_end.n_mels * job.front_end.frames
    if is_whole(file, values) or (job.keeper.pull_again(file) and is_whole(file, values)):
        return True
    job.keeper.remove(file)
    return False


def definition(job: ShardJob) -> list[object]:
    """What the features depend on, beside the recordings."""
    parts: list[object] = [asdict(job.front_end)]
    if job.copy is not None:
        parts.append(job.copy.identity)
    if job.correction is not None:
        parts.append(["corrected", job.correction.identity])
    return parts


def digest_of(*values: object) -> str:
    """16 hex digits of values that JSON can hold."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
