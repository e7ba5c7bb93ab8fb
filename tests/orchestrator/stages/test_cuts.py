"""The map of the features on all machines: what a node's failure is, and which nodes make it."""

import os
from pathlib import Path

import pytest
import ray

from features.store import DamagedShard
from orchestrator.errors import UserError
from orchestrator.stages.computed import compute
from orchestrator.stages.cuts import load_cuts, located, prepare, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]


@ray.remote(num_cpus=0, max_retries=0)
def fails(error: Exception | None) -> None:
    if error:
        raise error


@ray.remote(num_cpus=0, max_retries=0)
def dies() -> None:
    os._exit(1)


def test_a_shard_that_a_node_finds_damaged_is_known_here():
    with pytest.raises(DamagedShard, match=r"/x/1\.parquet is damaged \(no footer\)") as caught:
        wait_for({"one": fails.remote(None), "two": fails.remote(DamagedShard(Path("/x/1.parquet"), "no footer"))})
    assert type(caught.value) is DamagedShard and caught.value.path == Path("/x/1.parquet")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "/cache/maps"), "^node two: /cache/maps: No space left on device$"),
        (OSError(5, "Input/output error"), "^node two: storage: Input/output error$"),
    ],
)
def test_a_node_without_room_is_named(error, line):
    with pytest.raises(UserError, match=line):
        wait_for({"two": fails.remote(error)})


def test_an_error_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        wait_for({"two": fails.remote(ZeroDivisionError())})


def test_a_node_that_is_lost_is_not_waited_for():
    wait_for({"lost": dies.remote(), "one": fails.remote(None)})


@pytest.mark.parametrize(("needed", "is_made"), [(1, True), (64, False)])
def test_this_machine_makes_the_map_where_a_trial_fits_on_it(small, store, needed, is_made):
    config = small(f"resources.cpus_per_trial={needed}")
    computed = compute(config, store, parallel=False)
    features, _ = located(config, computed, store)
    features.file.unlink(missing_ok=True)
    seen: list[tuple[int, int]] = []
    prepare(config, computed, store, lambda done, total: seen.append((done, total)))
    assert features.file.exists() is is_made
    assert seen[-1:] == [(features.rows, features.rows)] * is_made
    (data,) = load_cuts(config, computed, store)
    assert data.train.features.map.file == features.file
