"""A Ray of its own: an actor and a Tune trial report, until the folder of the argument holds a file called stop."""

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray import tune

from orchestrator.monitor.telemetry import Telemetry
from orchestrator.training.rows import Row

ROW: Row = {
    "epoch": 3,
    "loss": 0.5,
    "accuracy": 0.75,
    "log_loss": 1.25,
    "learning_rate": 0.125,
    "cycle_end": False,
    "clips_per_second": 64.0,
    "seconds": 1.0,
}
LATER: Row = {**ROW, "epoch": 4, "accuracy": None, "log_loss": None}


class Student:
    def train(self) -> None:
        telemetry = Telemetry("demo-0123", "final", "student")
        telemetry.report(ROW)
        telemetry.report(LATER)


class Trial(tune.Trainable):
    def setup(self, config: dict[str, str]) -> None:
        self.end = Path(config["folder"]) / "stop"
        self.telemetry = Telemetry("demo-0123", "search", "student-00")

    def step(self) -> dict[str, bool]:
        self.telemetry.report(ROW)
        while not self.end.exists():
            time.sleep(0.2)
        return {"done": True}


if __name__ == "__main__":
    folder = sys.argv[1]
    ray.init(address="local", num_cpus=1, include_dashboard=True, _temp_dir=folder, _node_ip_address="127.0.0.1")
    remote: Any = ray.remote(num_cpus=0)(Student)
    student = remote.remote()
    ray.get(student.train.remote())
    tune.Tuner(Trial, param_space={"folder": folder}, run_config=tune.RunConfig(storage_path=f"{folder}/tune")).fit()
