"""Concurrent trials on one node hold one copy of the features: private memory with a large set and a tiny one."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from features.taxonomy import Taxonomy
from models.recipe import Recipe
from models.specs import MobnetSpec
from orchestrator.cluster.connection import connected
from orchestrator.config.experiment import Resources
from orchestrator.stages.tuning import FitTrial, Plan
from orchestrator.storage.store import Store
from orchestrator.training.data import Split
from orchestrator.training.record import Training
from orchestrator.training.task import Task

TRIALS, FRAMES, LARGE, TINY = 2, 431, 4000, 40
TAXONOMY = Taxonomy.from_groups({"a": ["one"], "b": ["two"]})


class Measured(FitTrial):
    """A trial that says how much memory is its own, and reads all of the features first."""

    def step(self) -> dict[str, Any]:
        total = float(self.cuts[""][0].static.sum(dtype=np.float64))
        return {"private_mib": private_mib(), "total": total, "done": True}


def private_mib() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def task_of(_training: Training) -> Task:
    return Task(MobnetSpec(), Recipe(cycle_ends=(1,)), 0, TAXONOMY, "scene")


def measure(clips: int, folder: str) -> tuple[float, list[float]]:
    static = np.ones((clips, 128, FRAMES), np.float16)
    labels = np.arange(clips, dtype=np.int64) % 2
    split = Split(static, labels, ("",) * clips, ("",) * clips, tuple(map(str, range(clips))), clips)
    plan = Plan("memory", Store(folder), Path(folder), task_of, lambda training: (), "cpu")
    parameters = {"plan": plan, "data": split, "validation": split}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(Measured, **parameters), {"CPU": Resources().cpus_per_trial}),
        param_space={
            "trial": tune.grid_search([asdict(Training("memory", f"trial-{n}", n, 1)) for n in range(TRIALS)])
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=TRIALS),
        run_config=tune.RunConfig(storage_path=folder, name=f"memory-{clips}", verbose=0),
    )
    return static.nbytes / 2**20, [(result.metrics or {})["private_mib"] for result in tuner.fit()]


def main(_arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, connected():
        tiny_size, tiny = measure(TINY, folder)
        large_size, large = measure(LARGE, folder)
    print(f"{TRIALS} concurrent trials, each having read the whole set twice (train and validation are one)")
    for size, private in ((tiny_size, tiny), (large_size, large)):
        print(f"features {size:7.1f} MiB   private memory of a trial: {', '.join(f'{mib:.0f}' for mib in private)} MiB")
    extra = sum(large) / len(large) - sum(tiny) / len(tiny)
    print(f"{large_size - tiny_size:.0f} MiB more features cost {extra:+.1f} MiB of private memory a trial")
    print(f"(a peer that copies them into every trial would hold {large_size - tiny_size:+.0f} MiB)")
