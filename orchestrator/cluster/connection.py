"""Connect to a Ray cluster or start one here; stop only what was started."""

import json
import logging
import os
import re
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from orchestrator.config.experiment import Resources
from orchestrator.errors import UserError
from orchestrator.storage.address import presentable
from orchestrator.storage.scratch import environment, sweep, temporary_files

# Large activations are freed and allocated again at every step. Kept by the process instead of returned to
# the system, they need not be paged in anew: 20 % of a student's step (docs/lab-notes.md).
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**26)}
LOG = 16 * 2**20  # bytes of one of Ray's log files, of which it keeps the last two; its own default is 512 MiB

MANY = 1000  # workers at once, where an autoscaler has no limit
JOINING = 30.0  # seconds for a head to accept connections; Ray by itself tries for 14 minutes
FIRST_REPORT = 30.0  # seconds that a head's autoscaler has for its first report; it takes 1 to 6
WATCHED = re.compile(r"node_[0-9a-f]+")  # the type of a node that no autoscaler started
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # on the head of a cluster that `ray up` started


@contextmanager
def connected() -> Iterator[str]:
    """A Ray connection for the block: the one there is, the cluster that RAY_ADDRESS names, or one started here.

    Yields a line with the address of its dashboard, and its token's place; empty for the connection that there was.
    What was started is stopped at the end, and SIGTERM does what it did before. Raises UserError.
    """
    import ray

    if ray.is_initialized():
        yield ""
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(LOG))
    os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "1")
    quieten()
    address = os.environ.get("RAY_ADDRESS") or "local"  # not the cluster that was last started on this machine
    files = temporary_files() if address == "local" else nullcontext(Path(tempfile.gettempdir()))
    with files as home, joined(address) as (session, dashboard):
        if address == "local":
            sweep(session, home)
        else:
            wait_for_autoscaler()
        yield dashboard_line(dashboard)


def dashboard_line(address: str) -> str:
    """Where Ray's dashboard is, what to look for there, and where its token is; empty where there is no dashboard."""
    if not address:
        return ""
    token = ""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":  # Ray itself sets it for a cluster that it starts
        place = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
        token = f"; it asks for the token in {'RAY_AUTH_TOKEN' if os.environ.get('RAY_AUTH_TOKEN') else place}"
    return f"Ray's dashboard: http://{address} (trainings are on its Actors page){token}"


@contextmanager
def joined(address: str) -> Iterator[tuple[Path, str]]:
    """Ray's connection for the block; yields the folder of its session, and its dashboard's address. Raises UserError.

    The address is HOST:PORT, empty where the cluster has no dashboard.
    """
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    is_ours = address == "local"
    # Processes that Ray keeps ready serve only jobs without a runtime environment: a cluster of our own inherits.
    options: dict[str, Any] = {"include_dashboard": True} if is_ours else {"runtime_env": {"env_vars": MALLOC}}
    try:
        if not is_ours:
            wait_for_head(address)
        with environment(MALLOC if is_ours else {}):
            context: Any = ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:  # no cluster there, no such address, another version; Ray raises bare ones, too
        shown = presentable(address)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].replace(address, shown)
        if is_ours:
            raise UserError(
                f"Ray does not start on this machine ({reason}); if it is busy, give the same command again later"
            ) from None
        raise UserError(
            f"no Ray cluster can be joined at {shown} ({reason}); RAY_ADDRESS is HOST:PORT of a head of the same "
            f"versions, or unset for a cluster on this machine"
        ) from None
    try:
        signal.signal(signal.SIGTERM, terminated)  # Ray's own handler ends the process on the spot
        quieten()
        yield Path(context.address_info["session_dir"]), str(context.dashboard_url or "").removeprefix("http://")
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # None: it was not set from Python


def wait_for_head(address: str) -> None:
    """Wait until something accepts connections at HOST:PORT. Raises OSError; other addresses are for Ray to judge."""
    host, _, port = address.rpartition(":")
    if not re.fullmatch(r"[^/]+", host) or not port.isdecimal():
        return
    until = time.monotonic() + JOINING
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
            return
        except (ConnectionRefusedError, TimeoutError):  # a head that is starting
            if time.monotonic() > until:
                raise
        time.sleep(0.2)


def terminated(_number: int, frame: FrameType | None) -> None:
    """A kill stops as Ctrl-C does, which Tune may listen to, even where that is ignored, as after `nohup ... &`."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)


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


def quieten() -> None:
    """Our own view replaces what the libraries print. A failed trial's reason is in its row and in Tune's folder."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    levels = {
        "ray": logging.ERROR,
        "ray.data": logging.ERROR,
        "ray.tune": logging.CRITICAL,
        "optuna": logging.WARNING,
        "tensorboardX": logging.ERROR,
    }
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    # A resumed trial reports its last epoch again; Optuna keeps the first report, which is the same.
    warnings.filterwarnings("ignore", message="The reported value is ignored because")


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
