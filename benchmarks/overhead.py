"""What the orchestration costs: 16 short trials, wall time against the sum of their training time on the same cores."""

import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from benchmarks.small import experiment
from orchestrator.artifacts import Store, read_json
from orchestrator.journal import trials_in
from orchestrator.run import run
from orchestrator.view import View

TRIALS, CORES = 16, 2


def main(_arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        config = experiment(
            Path(home),
            [
                "search.trials=16",
                "search.cycle_ends=[2, 6, 14, 30]",
                "search.grace_cycles=4",
                "student.recipe.batch_size=16",
            ],
            segments=6,
        )
        ray.init(address="local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)
        store = Store(Path(home) / "runs")
        folder = run(config, store, View(Console(file=io.StringIO())))
        results: dict[str, Any] = read_json(folder / "results.json")
        search = store.root / results["artifacts"]["search"]
        trials = [trial.rows[-1]["seconds"] for trial in trials_in(search)]
        ray.shutdown()
    wall, training = results["seconds"]["search"], sum(trials)
    print(f"{TRIALS} trials of {statistics.mean(trials):.1f} s (from their first epoch's start) on {CORES} cores")
    ratio = CORES * wall / training
    print(f"search: {wall:.1f} s of wall time x {CORES} cores against {training:.1f} s of training: {ratio:.2f}")
    each = (CORES * wall - training) / TRIALS
    print(f"{each:.1f} s of a core for each trial beside its training: process, imports, data, verdict")
