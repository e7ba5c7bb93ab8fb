"""Clips -> Parquet shards of log-mel on Ray Data, with a manifest and a quarantine table.

A rerun computes only the shards that are missing. A bad clip never stops the run and never vanishes: it is
in the quarantine table with its reason.
"""

import errno
import hashlib
import importlib.metadata
import json
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.audio import BadAudio, Recording, read
from features.copies import Copy
from features.corpus import Clip, CorpusError, require_distinct
from features.files import Keeper
from features.frontend import static_channel
from features.settings import FrontEnd
from features.spectrum import Responses, corrected
from features.store import Shard, is_whole, read_index, write_shard

CLIPS_PER_SHARD = 128
SHARDS_PER_TASK = 8  # at most
SMALL = 1000.0  # seconds of recordings whose features take the time of a few of Ray Data's tasks to start
COPYING = 10  # times as long as the features takes a copy, at most


@dataclass(frozen=True)
class Manifest:
    """What the feature set is made of."""

    front_end: FrontEnd
    shards: tuple[str, ...]  # file names
    data_hash: str  # of the front end and of every usable clip's path and bytes
    clips: int
    quarantine: dict[str, str]  # path -> reason
    notes: dict[str, str]  # path -> what was done to the recording

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


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


def precompute(
    root: Path,
    clips: Sequence[Clip],
    front_end: FrontEnd,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    parallel: bool = True,
    copy: Copy | None = None,
    correction: Responses | None = None,
    keeper: Keeper = Keeper(),  # noqa: B008 - it has no state
    code: str = "",
) -> Manifest:
    """Compute the missing shards into `folder`: on the connected Ray cluster, or else one by one in this process, which
    is faster where they are SMALL.

    With `copy`, they are of changed clips; with `correction`, of clips corrected to the reference device's response.
    `code` is a digest of what computes shards: those of other code are left alone.
    `keeper` has the shards that count as finished, and is given each new one.
    `progress` is called with the number of clips done and of all clips, where shards are missing.
    Raises CorpusError if no clip is usable.
    """
    if not clips:
        raise CorpusError("no clips to compute features of")
    # Ray's workers have a working directory of their own.
    partners = {} if copy is None else copy.partners(clips)
    devices = {} if correction is None else {clip.path: clip.device for clip in clips}
    absent = frozenset(clip.path for clip in clips if not (root / clip.path).exists())
    job = ShardJob(
        root.resolve(), front_end, folder.resolve(), copy, partners, correction, devices, keeper, absent, code=code
    )
    plan = plan_shards(job, clips)
    missing = {name: paths for name, paths in plan.items() if not is_finished(job, name)}
    done = len(clips) - sum(map(len, missing.values()))
    if missing:
        progress(done, len(clips))
    seconds = (len(clips) - done) * front_end.clip_seconds * (1 if copy is None else COPYING)
    compute = compute_on_ray if parallel and seconds > SMALL else compute_here
    for name in compute(job, missing):
        done += len(missing[name])
        progress(done, len(clips))
    for name in plan:
        keeper.pull(job.folder / name)
    return describe(job, plan, clips)


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


def compute_here(job: ShardJob, missing: dict[str, list[str]]) -> Iterator[str]:
    """Yield the name of each shard as it is finished."""
    for name, paths in missing.items():
        compute_shard(job, paths, name)
        yield name


def compute_on_ray(job: ShardJob, missing: dict[str, list[str]]) -> Iterator[str]:
    """Yield the name of each shard when it is finished, in any order.

    Raises OSError and CorpusError after the last one.
    """
    import ray
    import ray.data

    execution = ray.data.DataContext.get_current()
    execution.enable_progress_bars = False
    execution.print_on_execution_start = False

    def task(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for name, paths in json.loads(row["shards"]).items():
            result = {"name": name, "errno": 0, "text": "", "reason": ""}
            try:
                job.require_libraries()
                if not job.keeper.has(job.folder / name):  # a task that was lost with its node may have got so far
                    compute_shard(job, paths, name)
            except OSError as error:  # yielded, not raised: Ray would wrap it, and drop what other tasks finish
                place, reason = str(error.filename or job.folder), error.strerror or str(error)
                yield {**result, "errno": error.errno or errno.EIO, "text": place, "reason": reason}
            except CorpusError as error:
                yield {**result, "text": str(error)}
            else:
                yield result

    workers = int(ray.cluster_resources().get("CPU", 0))  # none yet, where nodes come on demand
    parts = portions(list(missing), workers)
    rows = [{"shards": json.dumps({name: missing[name] for name in names})} for names in parts]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).flat_map(task, num_cpus=1)
    dataset.context.target_max_block_size = 1  # a finished shard is reported at once, in a block of its own
    dataset.set_name(f"features-{job.copy.kind}" if job.copy else "features")
    failed: Exception | None = None
    for row in dataset.iter_rows():
        if row["errno"]:
            failed = OSError(row["errno"], row["reason"], row["text"])
        elif row["text"]:
            failed = CorpusError(row["text"])
        else:
            yield row["name"]
    if failed:
        raise failed


def portions(names: list[str], workers: int) -> Iterator[list[str]]:
    """Shards for one task after another: many at first, single ones at the end.

    Between two tasks Ray Data leaves a worker idle for 0.15 s, as long as 20 clips take, hence few tasks; and the last
    ones are small, so that the workers finish together.
    """
    while names:
        size = min(SHARDS_PER_TASK, math.ceil(len(names) / (2 * max(workers, 1))))
        yield names[:size]
        names = names[size:]


def describe(job: ShardJob, plan: dict[str, list[str]], clips: Sequence[Clip]) -> Manifest:
    """The manifest of finished shards, which depends on content alone, not on where or when it was computed.

    Raises CorpusError where no clip can be used, or two splits share a recording.
    """
    content, quarantine, notes = [], {}, {}
    for name in plan:
        rows, refused = read_index(job.folder / name)
        content += [(row["path"], row["digest"], job.devices.get(row["path"], "")) for row in rows]
        quarantine |= refused
        notes |= {row["path"]: row["notes"] for row in rows if row["notes"]}
    if not content:
        path, reason = next(iter(quarantine.items()))
        raise CorpusError(f"none of {len(quarantine)} clips can be used; the first, {path}: {reason}")
    require_distinct(clips, {path: digest for path, digest, _ in content})
    return Manifest(
        front_end=job.front_end,
        shards=tuple(sorted(plan)),
        data_hash=digest_of(*definition(job), sorted(content)),
        clips=len(content),
        quarantine=dict(sorted(quarantine.items())),
        notes=dict(sorted(notes.items())),
    )


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
