"""Clips -> Parquet shards of log-mel on Ray Data, with a manifest and a quarantine table.

A rerun computes only the shards that are missing. A bad clip never stops the run and never vanishes: it is
in the quarantine table with its reason.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from features.copies import Copy
from features.corpus import Clip, CorpusError, require_distinct
from features.files import Keeper
from features.on_ray import compute_on_ray
from features.settings import FrontEnd
from features.shards import ShardJob, compute_shard, definition, digest_of, is_finished, plan_shards
from features.spectrum import Responses
from features.store import read_index

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


def compute_here(job: ShardJob, missing: dict[str, list[str]]) -> Iterator[str]:
    """Yield the name of each shard as it is finished."""
    for name, paths in missing.items():
        compute_shard(job, paths, name)
        yield name


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
