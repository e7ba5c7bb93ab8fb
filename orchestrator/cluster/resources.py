"""How much fits on the cluster: on the nodes that are up, and on those that an autoscaler may start."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config.experiment import Resources
from orchestrator.errors import UserError

MANY = 1000  # workers at once, where an autoscaler has no limit
FIRST_REPORT = 30.0  # seconds that a head's autoscaler has for its first report; it takes 1 to 6
WATCHED = re.compile(r"node_[0-9a-f]+")  # the type of a node that no autoscaler started
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # on the head of a cluster that `ray up` started


def places(cpus: float, gpus: float) -> int:
    """How many workers of such needs fit on the cluster's nodes, or on those that an autoscaler may start."""
    types = on_demand()
    if types is None:
        return MANY
    return max(running_places(cpus, gpus), min(sum(count * fit(node, cpus, gpus) for node, count in types), MANY))


def running_places(cpus: float, gpus: float) -> int:
    """How many of them fit on the nodes that are up."""
    import ray

    return sum(fit(node["Resources"], cpus, gpus) for node in ray.nodes() if node["Alive"])


def fit(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many workers of such needs fit on one node with these resources."""
    by_gpu = [int(node.get("GPU", 0) / gpus)] if gpus else []
    return min([int(node.get("CPU", 0) / cpus), *by_gpu])


def on_demand() -> list[tuple[dict[str, float], int]] | None:
    """Resources and number of the nodes that an autoscaler may start, by type: none where there is no autoscaler.

    None where that is not known: it is known on the head of a cluster that `ray up` started, from
    the file that this leaves there; KubeRay's keeps it to itself.
    """
    if not is_autoscaled():
        return []
    if not BOOTSTRAP.expanduser().is_file():
        return None
    config = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
    most = config.get("max_workers", MANY)
    return [
        (settings.get("resources", {}), min(settings.get("max_workers", most), most))
        for name, settings in config["available_node_types"].items()
        if name != config["head_node_type"]
    ]


def is_autoscaled() -> bool:
    """Whether an autoscaler starts nodes here.

    Every head has one that only watches, too; the types of nodes that it reports are made up of their IDs, or empty.
    """
    return any(name and not WATCHED.fullmatch(name) for name in reported_types() or ())


def wait_for_autoscaler() -> None:
    """Wait for the first report: a head that has just started has an autoscaler about which nothing is known yet.

    What never reports, as where a head was started without one, is none.
    """
    until = time.monotonic() + FIRST_REPORT
    while reported_types() is None and time.monotonic() < until:
        time.sleep(0.2)


def reported_types() -> set[str] | None:
    """Types of the nodes that are up, as the autoscaler names them. None before its first report that names any.

    Ray's first autoscaler reports to the key-value store, its second to the state of the cluster.
    """
    import ray
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # pyright: ignore - generated code

    # A client of our own: Ray's is one for the whole process, and another cluster that ends here takes it away.
    client: Any = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)  # pyright: ignore - compiled
    report = json.loads(client.internal_kv_get(b"__autoscaling_status", None) or "{}").get("autoscaler_report") or {}
    first = set((report.get("node_type_mapping") or {}).values())
    status = GetClusterStatusReply.FromString(client.get_cluster_status())
    if status.autoscaling_state.autoscaler_state_version > 0:
        return first | {node.ray_node_type_name for node in status.cluster_resource_state.node_states}
    return first or None


def resources_within_reach() -> dict[str, float]:
    """What the cluster has, or can have where an autoscaler starts nodes on demand."""
    import ray

    found: dict[str, float] = {**ray.cluster_resources()}
    types = on_demand() or []
    for name in {name for node, _ in types for name in node}:
        found[name] = max(found.get(name, 0), sum(count * node.get(name, 0) for node, count in types))
    return found


def concurrency(resources: Resources) -> int:
    """How many trials the cluster can run at once. Raises UserError where it cannot run a single one."""
    found = places(resources.cpus_per_trial, resources.gpus_per_trial)
    if found < 1:
        total = resources_within_reach()
        raise UserError(
            f"a trial needs {resources.cpus_per_trial} CPUs and {resources.gpus_per_trial:g} GPUs on one node; no node "
            f"has them (in all: {total.get('CPU', 0):g} and {total.get('GPU', 0):g}); change resources"
        )
    return found
