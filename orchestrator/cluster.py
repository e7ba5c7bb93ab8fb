"""Connect to a Ray cluster or start one here; stop only what was started."""

import logging
import os
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from orchestrator.errors import UserError
from orchestrator.scratch import sweep

# Large activations are freed and asked for again at every step. Kept by the process instead of returned to
# the system, they need not be paged in anew: 20 % of a student's step (docs/lab-notes.md).
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**26)}
LOG = 16 * 2**20  # bytes of one of Ray's log files, of which it keeps the last two; its own default is 512 MiB

MANY = 1000  # workers at once, where an autoscaler has no limit


@contextmanager
def connected() -> Iterator[None]:
    """A Ray connection for the block: the one there is, the cluster that RAY_ADDRESS names, or one started here.

    What was started is stopped at the end.
    """
    import ray
    import ray.data

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(LOG))
    os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "1")
    quieten()
    address = os.environ.get("RAY_ADDRESS") or "local"  # not whatever cluster was last started on this machine
    try:
        context: Any = ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": MALLOC},
            include_dashboard=True if address == "local" else None,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:  # nobody there, no such address, another version
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no Ray cluster can be joined at {address} ({reason}); RAY_ADDRESS is HOST:PORT of a head of the same "
            f"versions, or unset for a cluster on this machine"
        ) from None
    if address == "local":
        sweep(Path(context.address_info["session_dir"]))
    signal.signal(signal.SIGTERM, terminated)  # Ray's own handler ends the process on the spot
    execution = ray.data.DataContext.get_current()
    execution.enable_progress_bars = False
    execution.print_on_execution_start = False
    quieten()
    try:
        yield
    finally:
        ray.shutdown()


def terminated(_number: int, frame: FrameType | None) -> None:
    """A kill stops as Ctrl-C does, which Tune may listen to, even where that is ignored, as after `nohup ... &`."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)


def places(cpus: float, gpus: float) -> int:
    """How many workers of such needs fit on the cluster's nodes, or on those that an autoscaler may start."""

    config = autoscaled()
    groups = [(group.resources, group.max_count) for group in config.node_group_configs] if config else []
    on_demand = [(MANY if count < 0 else count) * fit(node, cpus, gpus) for node, count in groups]
    return max(running_places(cpus, gpus), min(sum(on_demand), MANY))


def running_places(cpus: float, gpus: float) -> int:
    """How many of them fit on the nodes that are up."""
    import ray

    return sum(fit(node["Resources"], cpus, gpus) for node in ray.nodes() if node["Alive"])


def fit(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    by_gpu = [int(node.get("GPU", 0) / gpus)] if gpus else []
    return min([int(node.get("CPU", 0) / cpus), *by_gpu])


def autoscaled() -> Any:
    """The autoscaler's node types and limits; None where there is none."""
    from ray._private.state import state  # the only place that knows them

    return state.get_cluster_config()


def resources_within_reach() -> dict[str, float]:
    """What the cluster has, or can have where an autoscaler starts nodes on demand."""
    import ray
    from ray._private.state import state  # the only place that knows the autoscaler's limits

    most: dict[str, float] = {**(state.get_max_resources_from_cluster_config() or {})}
    return most | {name: max(value, most.get(name, 0)) for name, value in ray.cluster_resources().items()}


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
