"""A small cluster on this machine that can be broken: raylets, an S3 server and a driver, each of its own process."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from orchestrator.errors import UserError
from orchestrator.storage.store import Store
from orchestrator.training.journal import trials_in
from orchestrator.training.record import FINISHED, STOPPED, Trial
from orchestrator.training.rows import Row

ROOT = Path(__file__).parents[1]
BUCKET = "chaos"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class Storage:
    """An S3 server on loopback that can be out of reach for a while; it keeps its objects."""

    def __init__(self) -> None:
        import boto3
        from moto.server import ThreadedMotoServer

        os.environ.update(CREDENTIALS)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request otherwise
        self.server: Any = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        _, self.port = self.server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}").create_bucket(Bucket=BUCKET)

    def uri(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def fail(self, seconds: float) -> None:
        from moto.server import ThreadedMotoServer

        self.server.stop()
        time.sleep(seconds)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()


class Machines:
    """A head with `cpus` CPUs, and workers of one CPU each, as processes of this machine."""

    def __init__(self, workers: int = 2, cpus: int = 0) -> None:
        from ray.cluster_utils import Cluster

        self.cpus = cpus
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
        self.workers = [self.cluster.add_node(num_cpus=1) for _ in range(workers)]

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_worker(self) -> None:
        self.cluster.remove_node(self.workers.pop(0), allow_graceful=False)
        self.workers.append(self.cluster.add_node(num_cpus=1))

    def lose_everything(self) -> None:
        """Head and workers at once; a new cluster takes their place."""
        self.cluster.shutdown()
        self.__init__(len(self.workers), self.cpus)

    def lose_process(self, words: tuple[str, ...]) -> bool:
        """Kill a worker's process of this cluster whose title has one of the words; whether there was one."""
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or [])
            if title.startswith("ray::") and any(word in title for word in words):
                with suppress(psutil.NoSuchProcess):
                    raylet = process.parent()
                    if raylet is not None and any(self.address in word for word in raylet.cmdline()):
                        process.kill()
                        return True
        return False


class Driver:
    """`stillhouse run` as a process."""

    def __init__(self, home: Path, storage: str, address: str) -> None:
        environment = {**os.environ, "RAY_ADDRESS": address, "STILLHOUSE_MIRROR": str(home / "mirror")}
        self.log = home / "driver.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "run", str(home / "experiment.yaml"), "--storage", storage],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=ROOT,
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self, graceful: bool) -> None:
        self.process.terminate() if graceful else self.process.kill()
        self.process.wait(timeout=120)


def observed(storage: str, home: Path) -> Store:
    """The storage as one sees it who takes no part: through a mirror of its own."""
    return mirrored(storage, home / "observer")


def mirrored(storage: str, mirror: Path) -> Store:
    """The storage as a machine sees it that keeps its copies in `mirror`."""
    before = os.environ.get("STILLHOUSE_MIRROR", "")  # empty is as good as none
    os.environ["STILLHOUSE_MIRROR"] = str(mirror)
    try:
        return Store(storage)
    finally:
        os.environ["STILLHOUSE_MIRROR"] = before


def ended_trials(storage: str, home: Path) -> dict[str, Sequence[Row]]:
    """Trials that have ended, with their rows: times in these are of one execution, so a repeated one has others."""
    store = observed(storage, home)
    for kind in ("work", "artifacts"):
        store.pull(store.root / kind)
    found: list[Trial] = []
    for kind in ("work", "artifacts"):
        for folder in store.root.glob(f"{kind}/*/*"):
            with suppress(OSError, ValueError, UserError):  # half of a folder that is being removed, or a torn file
                found += trials_in(folder)
    return {trial.name: trial.rows for trial in found if trial.training.state in (FINISHED, STOPPED)}


def exported(storage: str, home: Path) -> dict[str, bytes]:
    """The run's exported weights."""
    store = observed(storage, home)
    store.pull(store.root)
    (models,) = store.root.glob("*/models")
    return {name: (models / name).read_bytes() for name in ("student.safetensors", "student.tflite")}
