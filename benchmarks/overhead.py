"""What the orchestration costs: the wall time of 16 short trials on all cores, beside their training time.

That is taken twice: as the trials themselves measured it, and of the same trainings in bare processes, which nothing
of Ray's slows down. And what a trial costs beside its training: ours, and that of a bare Tune trial whose process
needs torch too.
"""

import io
import os
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from ray import tune
from rich.console import Console

from benchmarks.processes import side_by_side
from benchmarks.small import experiment
from orchestrator.cluster.connection import connected
from orchestrator.finished.reproduce import load_run
from orchestrator.monitor.view import View
from orchestrator.run import run
from orchestrator.stages.search import trial_task
from orchestrator.stages.tuning import FitTrial
from orchestrator.storage.files import read_json
from orchestrator.storage.store import Store
from orchestrator.training.journal import trials_in
from orchestrator.training.task import train

REFERENCES = 4  # trials that are trained in bare processes too; all have the same epochs and widths
TRIALS, CORES = 16, os.cpu_count() or 1
SETTINGS = [
    f"search.trials={TRIALS}",
    "search.cycle_ends=[2, 6, 14, 30, 62, 126, 254]",
    "search.stopping=none",
    "search.finalists=0",
    "student.recipe.batch_size=16",
]


class Bare(tune.Trainable):
    """A trial that does nothing, in a process that has imported what ours needs."""

    def setup(self, config: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.needed = FitTrial

    def step(self) -> dict[str, Any]:
        return {"done": True}


def bare_trials(folder: str) -> float:
    """Seconds that Tune takes for trials that do nothing."""
    started = time.monotonic()
    tune.run(
        tune.with_resources(Bare, {"CPU": 1}),
        num_samples=TRIALS,
        storage_path=folder,
        max_concurrent_trials=CORES,
        verbose=0,
    )
    return time.monotonic() - started


def bare_training(folder: str, trial: str) -> float:
    """Seconds of one trial's training in a process that has nothing else to do, its imports left out."""
    path = Path(folder)
    config, (data, *_), search = load_run(Store(path.parent), path)
    assert search is not None
    task = trial_task(config, search.training(trial))
    started = time.monotonic()
    for _ in train(task, data.train, data.validation):
        pass
    return time.monotonic() - started


def main(_arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        config = experiment(Path(home), SETTINGS, segments=6)
        store = Store(Path(home) / "runs")
        with connected():  # as `stillhouse run` does, the allocator's settings included
            folder = run(config, store, View(Console(file=io.StringIO())))
            results = read_json(folder / "results.json")
            nothing = bare_trials(home)
        trials = trials_in(store.root / results["artifacts"]["search"])
        calls = {trial.name: (str(folder), trial.name) for trial in trials[:REFERENCES]}
        training = TRIALS * mean(side_by_side(bare_training, calls).values())
    wall, own = CORES * results["seconds"]["search"], sum(trial.rows[-1]["seconds"] for trial in trials)
    print(f"{TRIALS} trials on {CORES} cores, of {own / TRIALS:.1f} s each; bare {training / TRIALS:.1f} s")
    print(f"search: {wall:.1f} s of cores (wall time x {CORES})")
    print(f"  against {own:.1f} s of its own training: {wall / own:.2f}")
    print(f"  against {training:.1f} s of training in bare processes: {wall / training:.2f}")
    ours, theirs = (wall - own) / TRIALS, CORES * nothing / TRIALS
    print(f"a trial beside its training: {ours:.1f} s of a core; a bare Tune trial that imports torch: {theirs:.1f} s")
