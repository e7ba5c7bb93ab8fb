"""Clips -> Parquet shards of log-mel on Ray Data, with a manifest and a quarantine table.

A rerun computes only the shards that are missing. A bad clip never stops the run and never vanishes: it is
in the quarantine table with its reason.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.audio import BadAudio, read
from features.corpus import Clip, CorpusError
from features.frontend import static_channel
from features.settings import FrontEnd
from features.store import Shard, read_index, write_shard

CLIPS_PER_SHARD = 64
FORMAT = 2  # raise it when the definition of the features or of a shard changes


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

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        values = json.loads(text)
        values["front_end"] = FrontEnd(**values["front_end"])
        values["shards"] = tuple(values["shards"])
        return cls(**values)


def compute_shard(root: Path, paths: Sequence[str], front_end: FrontEnd, target: Path) -> None:
    """Compute and write one shard: the thing a Ray task does, and all of it."""
    torch.set_num_threads(1)
    rows, kept, digests, notes, quarantine = [], [], [], [], {}
    for path in paths:
        try:
            recording = read(root / path, front_end.sample_rate, front_end.clip_seconds)
        except BadAudio as error:
            quarantine[path] = str(error)
            continue
        rows.append(static_channel(torch.from_numpy(recording.samples), front_end).half().numpy())
        kept.append(path)
        digests.append(recording.digest)
        notes.append("; ".join(recording.notes))
    static = np.stack(rows) if rows else np.empty((0, front_end.n_mels, front_end.frames), np.float16)
    write_shard(target, Shard(kept, digests, notes, static, quarantine))


def plan_shards(root: Path, clips: Sequence[Clip], front_end: FrontEnd) -> dict[str, list[str]]:
    """Shard file name -> the paths in it.

    A clip's shard follows from its path and the number of shards, a power of two, so that an added or
    changed file renames one shard, not all after it. The name covers what can change the content: settings,
    paths, and each file's size and modification time.
    """
    count = 1
    while count * CLIPS_PER_SHARD < len(clips):
        count *= 2
    members: dict[int, list[str]] = {}
    for clip in clips:
        members.setdefault(int(digest_of(clip.path), 16) % count, []).append(clip.path)
    plan = {}
    for paths in members.values():
        stamps = [(path, *stamp(root / path)) for path in paths]
        plan[f"{digest_of(FORMAT, asdict(front_end), stamps)}.parquet"] = paths
    return plan


def stamp(file: Path) -> tuple[int, int]:
    """Size and modification time. A file that has vanished has neither, and goes to quarantine when it is read."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def precompute(
    root: Path,
    clips: Sequence[Clip],
    front_end: FrontEnd,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    parallel: bool = True,
) -> Manifest:
    """Compute the missing shards into `folder`: on the connected Ray cluster, or else one by one in this process.

    `progress` is told clips done and clips in all. Raises CorpusError if no clip is usable.
    """
    if not clips:
        raise CorpusError("no clips to compute features of")
    # Ray's workers have a working directory of their own.
    root, folder = root.resolve(), folder.resolve()
    plan = plan_shards(root, clips, front_end)
    missing = {name: paths for name, paths in plan.items() if not (folder / name).exists()}
    done = len(clips) - sum(map(len, missing.values()))
    progress(done, len(clips))
    compute = compute_on_ray if parallel else compute_here
    for name in compute(root, missing, front_end, folder) if missing else ():
        done += len(missing[name])
        progress(done, len(clips))
    return describe(folder, plan, front_end)


def compute_here(root: Path, missing: dict[str, list[str]], front_end: FrontEnd, folder: Path) -> Iterator[str]:
    """Yield the name of each shard as it is finished."""
    for name, paths in missing.items():
        compute_shard(root, paths, front_end, folder / name)
        yield name


def compute_on_ray(root: Path, missing: dict[str, list[str]], front_end: FrontEnd, folder: Path) -> Iterator[str]:
    """Yield the name of each shard as it is finished, in whatever order that is."""
    import ray.data

    def task(row: dict[str, Any]) -> dict[str, Any]:
        compute_shard(root, list(row["paths"]), front_end, folder / row["name"])
        return {"name": row["name"]}

    rows = [{"name": name, "paths": paths} for name, paths in missing.items()]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(task, num_cpus=1)
    dataset.set_name("features")
    for row in dataset.iter_rows():
        yield row["name"]


def describe(folder: Path, plan: dict[str, list[str]], front_end: FrontEnd) -> Manifest:
    """The manifest of finished shards, which depends on content alone, not on where or when it was computed."""
    content, quarantine, notes = [], {}, {}
    for name in plan:
        rows, refused = read_index(folder / name)
        content += [(row["path"], row["digest"]) for row in rows]
        quarantine |= refused
        notes |= {row["path"]: row["notes"] for row in rows if row["notes"]}
    if not content:
        path, reason = next(iter(quarantine.items()))
        raise CorpusError(f"none of {len(quarantine)} clips can be used; the first, {path}: {reason}")
    return Manifest(
        front_end=front_end,
        shards=tuple(sorted(plan)),
        data_hash=digest_of(FORMAT, asdict(front_end), sorted(content)),
        clips=len(content),
        quarantine=dict(sorted(quarantine.items())),
        notes=dict(sorted(notes.items())),
    )


def digest_of(*values: object) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()
