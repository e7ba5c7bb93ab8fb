"""Shards computed on a Ray cluster, by Ray Data."""

import errno
import json
import math
from collections.abc import Iterator
from typing import Any

from features.corpus import CorpusError
from features.shards import ShardJob, compute_shard

SHARDS_PER_TASK = 8  # at most


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
