"""Features at full size: how long until training can begin, and whose memory they take (docs/scale.md).

23,035 clips of 10 s and five kinds of copies, as dcase2021 has them, or as many as are given: synthetic shards, since
what is in them changes neither time nor memory.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from features.maps import locate
from features.store import Shard, write_shard
from models.batches import Clips, batches
from models.recipe import Recipe
from models.static import Static
from orchestrator.training.data import Features
from orchestrator.training.inputs import INPUT

CLIPS, TRAINED, KINDS, SHARD = 23_035, 13_962, 5, 128
SHAPE = (128, 431)
STEPS, ROUNDS = 40, 5


def write_shards(folder: Path, clips: int, kinds: int) -> None:
    """Groups of shards: of all clips, and of each kind of copies."""
    static = np.random.default_rng(0).random((SHARD, *SHAPE), np.float32).astype(np.float16)
    for group, count in enumerate([clips, *[clips * TRAINED // CLIPS] * kinds]):
        for first in range(0, count, SHARD):
            paths = [f"{row}.wav" for row in range(first, min(first + SHARD, count))]
            shard = Shard(paths, paths, paths, static[: len(paths)], {})
            write_shard(folder / f"{group}-{first:06}.parquet", shard)


def private_mib() -> float:
    """Written pages: those of a file that one process alone has mapped count as private, too, but clean."""
    ctypes.CDLL(None).malloc_trim(0)  # what batches have needed is free, and differs from time to time
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def groups_in(folder: Path) -> list[list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        found.setdefault(file.name.partition("-")[0], []).append(file)
    return [found[group] for group in sorted(found)]


def training_clips(static: Static) -> Clips:
    rows = len(static)
    return Clips(static, torch.eye(10)[torch.arange(rows) % 10], torch.eye(3)[torch.arange(rows) % 3])


def batches_of(clips: Clips, epoch: int) -> float:
    """Seconds for STEPS batches, which is all that an epoch has to do with features."""
    recipe = Recipe(cycle_ends=(2,), crop_frames=400, batch_size=32)
    started = time.perf_counter()
    for step, _ in enumerate(batches(clips, recipe, INPUT, seed=0, epoch=epoch)):
        if step == STEPS:
            break
    return time.perf_counter() - started


def locating(folder: Path) -> None:
    """The driver's part: what is where, and the map."""
    before = peak_mib()
    started = time.perf_counter()
    features, _ = locate(groups_in(folder), SHAPE)
    located = time.perf_counter() - started
    features.make()
    made = time.perf_counter() - started
    print(f"{located:.2f} {made:.2f} {peak_mib() - before:.0f} {peak_mib():.0f}")


def trial(folder: Path) -> None:
    """A trial's part: seconds to open the map, and its own memory after some batches."""
    print(f"{opening(folder)} {private_mib()}")


def bare(folder: Path) -> None:
    """As many clips, whose features are 64 arrays in memory."""
    print(f"{opening(folder, few=64)} {private_mib()}")


def opening(folder: Path, few: int = 0) -> float:
    features, _ = locate(groups_in(folder), SHAPE)
    torch.set_num_threads(1)
    started = time.perf_counter()
    static = Features(features, np.arange(features.rows)).open()
    seconds = time.perf_counter() - started
    if few:
        static = Static(static.values[:few].clone(), static.rows % few)
    clips = training_clips(static)
    for epoch in range(1, 4):
        batches_of(clips, epoch)
    return seconds


def compare(folder: Path) -> tuple[float, float]:
    """Seconds of batches from the map and from arrays in memory, medians of ROUNDS in turns, pages warm."""
    features, _ = locate(groups_in(folder), SHAPE)
    rows = min(features.rows, 20_000)
    mapped = training_clips(Features(features, np.arange(rows)).open())
    held = training_clips(Static.of(mapped.static.values[:rows].clone()))
    torch.set_num_threads(1)
    times = [(batches_of(mapped, 1), batches_of(held, 1)) for _ in range(ROUNDS + 1)][1:]
    ours, theirs = (sorted(column)[ROUNDS // 2] for column in zip(*times, strict=True))
    return ours, theirs


def part(name: str, folder: Path) -> list[float]:
    """A part of this benchmark in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", name, str(folder)]
    return [float(word) for word in subprocess.check_output(command, text=True).split()]


def main(arguments: Sequence[str]) -> None:
    clips = int(arguments[0]) if arguments else CLIPS
    with tempfile.TemporaryDirectory() as place:
        os.environ["STILLHOUSE_MIRROR"] = f"{place}/cache"
        folder = Path(place) / "shards"
        folder.mkdir()
        write_shards(folder, clips, KINDS)
        located, cold, grown, peak = part("locating", folder)
        _, warm, *_ = part("locating", folder)
        size = next((Path(place) / "cache" / "maps").glob("*.f16")).stat().st_size
        opened, private = part("trial", folder)
        private -= part("bare", folder)[1]
        ours, theirs = compare(folder)
    print(f"{clips:,} clips and {KINDS} kinds of copies of {clips * TRAINED // CLIPS:,}: {size / 1e9:.2f} GB")
    print(
        f"ready to train: {cold:.1f} s without a map, {located:.1f} of them to locate the clips; {warm:.2f} s with it"
    )
    print(f"peak of the process that makes it: {peak:.0f} MiB, {grown:.0f} of them for this")
    print(f"a trial opens it in {opened * 1000:.1f} ms; private memory {private:+.1f} MiB beside 64 clips in memory")
    print(f"{STEPS} batches of 32: {ours:.2f} s from the map, {theirs:.2f} s from memory: {ours / theirs:.3f}")


if __name__ == "__main__":
    {"locating": locating, "trial": trial, "bare": bare}[sys.argv[1]](Path(sys.argv[2]))
