"""How time and memory grow with the number of clips: table, check, shards, map, an epoch of a tiny student.

    python -m benchmarks growth [CLIPS ...]       10,000 and 100,000 where none is given

Recordings of 1 s of noise at 8 kHz, by a CSV manifest. Each part is a process of its own: its seconds of processor,
which work beside it hardly changes, its seconds, and its peak memory.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from benchmarks.memory import peak_mib
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.stages.computed import compute
from orchestrator.stages.corpus import check
from orchestrator.stages.cuts import load_cuts, prepare
from orchestrator.stages.search import student_task
from orchestrator.storage.store import Store
from orchestrator.training.task import train

SIZES = (10_000, 100_000)
SCENES = load("demo").corpus.taxonomy.scenes
RATE, AT_A_PLACE = 8_000, 20
PARTS = ("table", "shards", "map", "epoch")
SETTINGS = (
    "corpus={layout: manifest, generate: null, validation_fraction: 0.01}",
    f"features={{sample_rate: {RATE}, clip_seconds: 1.0, n_mels: 16, n_fft: 512, hop_length: 256}}",
    "teachers={}",
    "validation={}",
    "search=null",
    "student.model={stem: 4, rows: [4], branches: 1, tail: 4, shared: 4}",
    "student.recipe={cycle_ends: [1], crop_frames: 16}",
    "student.average=[1]",
    "final.seeds=1",
)


def make_recordings(root: Path, clips: int) -> None:
    """A tenth of them for the test, at places of their own."""
    rng = np.random.default_rng(0)
    lines = ["path,scene,split,location,device"]
    for number in range(clips):
        folder = f"{number // 1000:04}"
        if not number % 1000:
            (root / folder).mkdir(parents=True)
        place = number // AT_A_PLACE
        name = f"{folder}/{number:07}.wav"
        soundfile.write(root / name, rng.integers(-3000, 3000, RATE, np.int16), RATE)
        split = "train" if place // len(SCENES) % 10 else "test"
        lines.append(f"{name},{SCENES[place % len(SCENES)]},{split},place-{place},{'abc'[place % 3]}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")


def experiment(home: Path) -> Experiment:
    return load("demo", [*SETTINGS, f"corpus.root={home / 'corpus'}"])


def part(name: str, home: Path) -> None:
    """Print seconds of processor with those of its own processes, seconds, and the peak memory."""
    config, store = experiment(home), Store(home / "storage")
    started = clocks()
    if name == "table":
        check(config)
    elif name == "shards":
        compute(config, store, parallel=False)
    elif name == "map":
        prepare(config, compute(config, store, parallel=False), store)
    else:
        data = load_cuts(config, compute(config, store, parallel=False), store)[0]
        started = clocks()
        for _ in train(student_task(config, config.student), data.train, data.validation):
            pass
    print(*(now - before for now, before in zip(clocks(), started, strict=True)), peak_mib())


def clocks() -> tuple[float, float]:
    """Seconds of processor, of this process and those that it has started, and seconds."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return ended + sum(one.user + one.system for one in times), time.perf_counter()


def main(arguments: list[str]) -> None:
    print(f"{'clips':>10}" + "".join(f"{name:>34}" for name in PARTS))
    for clips in map(int, arguments or SIZES):
        with tempfile.TemporaryDirectory() as place:
            home = Path(place)
            os.environ["STILLHOUSE_MIRROR"] = f"{home}/mirror"
            make_recordings(home / "corpus", clips)
            cells = []
            for name in PARTS:
                command = [sys.executable, "-m", "benchmarks.growth", name, place]
                cpu, seconds, memory = map(float, subprocess.check_output(command, text=True).split())
                cells.append(f"{cpu:.1f} CPU s, {seconds:.1f} s, {memory:.0f} MiB")
            print(f"{clips:>10,}" + "".join(f"{cell:>34}" for cell in cells), flush=True)


if __name__ == "__main__":
    part(sys.argv[1], Path(sys.argv[2]))
