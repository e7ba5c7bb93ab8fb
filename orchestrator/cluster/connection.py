"""Connect to a Ray cluster or start one here; stop only what was started."""

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

from orchestrator import arithmetic
from orchestrator.cluster.resources import wait_for_autoscaler
from orchestrator.errors import UserError
from orchestrator.storage.address import presentable
from orchestrator.storage.lease import job_config
from orchestrator.storage.scratch import environment, sweep, temporary_files

log = logging.getLogger("stillhouse")

# Large activations are freed and allocated again at every step. Kept by the process instead of returned to
# the system, they need not be paged in anew: 20 % of a student's step (docs/lab-notes.md).
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**26)}
LOG_BYTES = 16 * 2**20  # bytes of one of Ray's log files, of which it keeps the last two; its own default is 512 MiB

JOINING = 30.0  # seconds for a head to accept connections; Ray by itself tries for 14 minutes


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
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(LOG_BYTES))
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
    elsewhere = {name: value for name, value in (MALLOC | arithmetic.chosen()).items() if name not in of_the_job()}
    options: dict[str, Any] = {"include_dashboard": True} if is_ours else {"runtime_env": {"env_vars": elsewhere}}
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
            f"versions, with RAY_AUTH_MODE=token where it has a token, or unset for a cluster on this machine"
        ) from None
    try:
        signal.signal(signal.SIGTERM, terminated)  # Ray's own handler ends the process on the spot
        quieten()
        yield Path(context.address_info["session_dir"]), str(context.dashboard_url or "").removeprefix("http://")
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # None: it was not set from Python


def of_the_job() -> Mapping[str, str]:
    """Variables that a submitted job sets for all its processes: Ray refuses a driver that sets one of them again."""
    return job_config().get("runtime_env", {}).get("env_vars", {})


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


def quieten() -> None:
    """Our own view replaces what the libraries print. A failed trial's reason is in its row and in Tune's folder.

    What Ray has to say of lost or killed processes, which it prints for any driver, is in the run's log.
    """
    import ray

    ray._private.worker.print_to_stdstream = to_log  # pyright: ignore - there is no setting for it
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


def to_log(data: Mapping[str, Any], **_: Any) -> None:
    """Takes the place of Ray's printing."""
    for line in data["lines"]:
        log.warning("Ray: %s", line)
