"""The driver's memory over 200 trivial trials."""

import io
import tempfile
import threading
from pathlib import Path

import psutil
import ray
from rich.console import Console

from benchmarks.small import experiment
from orchestrator.monitor.view import View
from orchestrator.run import run
from orchestrator.storage.store import Store

TRIALS, EVERY = 200, 20


def main(_arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        config = experiment(Path(home), [f"search.trials={TRIALS}", "search.cycle_ends=[1]"], segments=1)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        store, over = Store(Path(home) / "runs"), threading.Event()
        sizes: dict[int, float] = {}

        def sample() -> None:
            process = psutil.Process()
            while not over.wait(0.5):
                started = len(list(store.root.glob("work/search/*/trials/*/trial.json")))
                if started and started % EVERY == 0:
                    sizes.setdefault(started, process.memory_info().rss / 2**20)

        watching = threading.Thread(target=sample)
        watching.start()
        run(config, store, View(Console(file=io.StringIO())))
        over.set()
        watching.join()
        ray.shutdown()
    listed = ", ".join(f"{count}: {size:.0f}" for count, size in sizes.items())
    first, last = min(sizes), max(sizes)
    growth = sizes[last] - sizes[first]
    print(f"driver's resident memory in MiB by trials started: {listed}")
    print(f"from trial {first} to {last}: {growth:+.1f} MiB, {1024 * growth / (last - first):+.0f} KiB a trial")
