"""The map of the features on all machines: what a node's failure is, and which nodes make it."""

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from features.maps import FeatureMap
from features.store import DamagedShard
from orchestrator.errors import UserError
from orchestrator.stages import cuts
from orchestrator.stages.computed import compute
from orchestrator.stages.cuts import load_cuts, located, prepare, start_making, wait_for

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
    with pytest.raises(UserError, match="^node two: "):  # those after it are
        wait_for({"lost": dies.remote(), "two": fails.remote(OSError(5, "Input/output error"))})


@pytest.mark.parametrize(("needed", "is_made"), [(1, True), (64, False)])
def test_this_machine_makes_the_map_where_a_trial_fits_on_it(small, store, needed, is_made):
    config = small(f"resources.cpus_per_trial={needed}")
    computed = compute(config, store, parallel=False)
    features, _ = located(config, computed, store)
    assert features.keeper is store
    features.file.unlink(missing_ok=True)
    seen: list[tuple[int, int]] = []
    prepare(config, computed, store, lambda done, total: seen.append((done, total)))
    assert features.file.exists() is is_made
    assert seen[-1:] == [(features.rows, features.rows)] * is_made
    (data,) = load_cuts(config, computed, store)
    assert data.train.features.map.file == features.file


def test_other_nodes_on_which_a_trial_fits_make_the_map_too(small, store, monkeypatch):
    config = small()
    computed = compute(config, store, parallel=False)
    own, fits = ray.get_runtime_context().get_node_id(), {"CPU": 2.0}
    nodes = [("other", True, fits), (own, True, fits), ("small", True, {}), ("dead", False, fits)]
    found = [{"NodeID": name, "Alive": is_alive, "Resources": has} for name, is_alive, has in nodes]
    monkeypatch.setattr("ray.nodes", lambda: found)
    begun: list[Any] = []
    monkeypatch.setattr(cuts, "start_making", lambda features, nodes: begun.append((features, nodes)) or {})
    prepare(config, computed, store)
    assert begun == [(located(config, computed, store)[0], found[:1])]


def test_each_node_is_given_a_task_of_its_own_that_waits_for_no_trial(monkeypatch):
    told: list[dict[str, Any]] = []

    class Task:
        def options(self, **options: Any) -> "Task":
            told.append(options)
            return self

        def remote(self, features: FeatureMap) -> FeatureMap:
            return features

    def remote(**options: Any) -> Any:
        told.append(options)
        return lambda made: Task()

    monkeypatch.setattr("ray.remote", remote)
    features, node = FeatureMap((), (), (1, 1)), ray.get_runtime_context().get_node_id()
    assert start_making(features, [{"NodeID": node, "NodeManagerHostname": "one"}]) == {"one": features}
    where = told[1].pop("scheduling_strategy")
    assert told == [{"num_cpus": 0}, {"name": "map features on one"}]
    assert (where.node_id, where.soft) == (node, False)
