"""Tear one file of a finished run after another, as a power cut does; the same command has to heal each.

Counted are the files that were healed, those that ended in a line or a traceback, and what was made again though it
was whole. The peer is the run as it was: the same exported weights, to the bit, and every other artifact untouched.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from benchmarks.machines import ROOT
from features.generated import CorpusSize, make_corpus

TEARS = 30
SEED = 0
RECIPE = {"cycle_ends": [1, 3], "crop_frames": 32, "batch_size": 8}
EXPERIMENT = {
    "name": "torn",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "teachers": {"one": {"model": {"width": 2}, "recipe": RECIPE, "ensemble": [1, 3]}},
    "student": {"recipe": {**RECIPE, "soft_weight": 0.5}, "average": [1, 3]},
    "search": {"trials": 3, "cycle_ends": [1, 2], "stopping": "none", "finalists": {"best": 1, "seeds": 1}},
}
PLACES = {  # where, and how many of the tears
    "artifacts/final": 7,
    "artifacts/search": 5,
    "artifacts/teacher": 4,
    "artifacts/labels": 3,
    "artifacts/features": 2,
    "shards": 3,
    "torn-": 6,  # the run's folder
}


def run(home: Path, storage: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", "run", str(home / "experiment.yaml"), "--storage", str(storage)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def damaged(draw: random.Random, data: bytes) -> bytes:
    """Empty, cut, zeros at its end, or a byte that is another."""
    at = draw.randrange(max(len(data), 1))
    return draw.choice([b"", data[:at], data[:at] + bytes(len(data) - at), data[:at] + b"\xff" + data[at + 1 :]])


def weights(storage: Path) -> dict[str, bytes]:
    (models,) = storage.glob("torn-*/models")
    return {name: (models / name).read_bytes() for name in ("student.safetensors", "student.tflite")}


def made(storage: Path) -> dict[str, tuple[int, int]]:
    """Artifacts and shards, with what changes when one is made again."""
    files = [*storage.glob("artifacts/*/*/stage.json"), *storage.glob("shards/*.parquet")]
    stats = {file.relative_to(storage).as_posix(): file.stat() for file in files}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def main(arguments: list[str]) -> None:
    tears = int(arguments[0]) if arguments else TEARS
    draw, counted = random.Random(SEED), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        home, storage, whole = Path(folder), Path(folder, "storage"), Path(folder, "whole")
        make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
        corpus = {**EXPERIMENT["corpus"], "root": str(home / "corpus")}
        (home / "experiment.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "corpus": corpus}))
        first = run(home, storage)
        if first.returncode:
            sys.exit(first.stdout + first.stderr)
        shutil.copytree(storage, whole)
        expected, before = weights(storage), made(storage)
        places = [place for place, count in PLACES.items() for _ in range(count)]
        for place in (places * (tears // len(places) + 1))[:tears]:
            files = sorted(path for path in storage.rglob("*") if path.is_file())
            names = [path.relative_to(storage).as_posix() for path in files]
            name = draw.choice([name for name in names if name.startswith(place) and "/." not in name])
            data = (storage / name).read_bytes()
            torn = damaged(draw, data)
            if torn == data:
                torn = b""
            (storage / name).write_bytes(torn)
            done = run(home, storage)
            what = "healed" if done.returncode == 0 else "traceback" if "Traceback" in done.stderr else "refused"
            if what == "healed" and weights(storage) != expected:
                what = "other weights"
            now = made(storage)
            again = sorted(other for other in before if now.get(other) != before[other])
            kin = "/".join(name.split("/")[:3])
            more = [other for other in again if not other.startswith(kin)]
            counted[what] += 1
            counted["whole artifacts made again"] += len(more)
            said = done.stderr.strip().splitlines()[-1:] if what != "healed" else []
            change = f"{name} ({len(data):,} -> {len(torn):,} bytes)"
            print(f"{change}: {what}; made again: {again or 'none'} {said}", flush=True)
            if what != "healed":  # the others are not to suffer from it
                shutil.rmtree(storage)
                shutil.copytree(whole, storage)
            before = made(storage)
    print(", ".join(f"{what} {count}" for what, count in counted.items()) + f", of {tears} torn files")
