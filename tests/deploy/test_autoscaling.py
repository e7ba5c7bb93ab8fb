"""A cluster that starts its nodes on demand: they count before they are up. A real head with Ray's own autoscaler."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.ports import free_ports
from tests.waiting import wait_for

pytestmark = pytest.mark.integration

WORKERS = {
    "cpu": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 3},
    "gpu": {"resources": {"CPU": 4, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 9},
}
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
CONFIG = {
    "cluster_name": "small",
    "max_workers": 5,
    "provider": {"type": "fake_multinode"},  # Ray's own for tests: an autoscaler that could start nodes here
    "head_node_type": "head",
    "available_node_types": {**WORKERS, "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}},
    "upscaling_speed": 1,
    "idle_timeout_minutes": 1,
    **{name: {} for name in ("auth", "file_mounts")},
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    **{f"{name}_commands": [] for name in COMMANDS},
    "file_mounts_sync_continuously": False,
}
AT_ONCE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}  # else a head takes 30 s to end
SCRIPT = """
import json
from orchestrator.cluster.connection import connected
from orchestrator.cluster.resources import places, resources_within_reach
with connected():
    reach = resources_within_reach()
    print(json.dumps([places(1, 0), places(1, 1), places(8, 0), reach.get("CPU"), reach.get("GPU")]))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Shorter than pytest's folders: Ray's sockets are below it, and their paths are limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def head_in(home: Path, *more: str) -> Iterator[dict[str, str]]:
    """A head without CPUs, and the environment of somebody on it."""
    (port,) = free_ports(1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = kept | {"HOME": str(home), "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    words = ["--head", "--block", f"--port={port}", "--num-cpus=0", "--node-ip-address=127.0.0.1"]
    words += ["--include-dashboard=false", "--object-store-memory=200000000", f"--temp-dir={home}"]
    with (home / "head.log").open("w") as log:
        head = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", *words, *more],
            env=environment | {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"} | AT_ONCE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        started = "Ray runtime started"  # a driver cannot join earlier
        wait_for(lambda: started in (home / "head.log").read_text() or head.poll() is not None, started)
        assert head.poll() is None, (home / "head.log").read_text()
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        head.terminate()
        head.wait(timeout=180)


def found(environment: dict[str, str]) -> list[float | None]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_nodes_that_an_autoscaler_may_start_count(home):
    (home / "cluster.yaml").write_text(yaml.safe_dump(CONFIG))
    with head_in(home, f"--autoscaling-config={home}/cluster.yaml") as environment:
        # KubeRay's autoscaler tells nobody what it may start, so nothing can be refused.
        assert found(environment) == [1000, 1000, 1000, None, None]
        # `ray up` leaves its configuration on the head: 3 nodes of 2 CPUs and 5 of 4 with a GPU.
        (home / "cluster.yaml").rename(home / "ray_bootstrap_config.yaml")
        assert found(environment) == [26, 5, 0, 26, 5]


def test_an_autoscaler_that_only_watches_starts_nothing(home):
    with head_in(home) as environment:
        assert found(environment) == [0, 0, 0, None, None]
