"""Break what a run is made of, at random points, until it is finished; count what was lost or done twice.

A cluster of a head and two workers on this machine, the driver a process of its own. Storage is behind a real S3 server
and on a small disk, in turns: the server can be out of reach, files on the disk can be torn, and it can be full.
The undisturbed run of the same experiment is the peer: the same exported weights, to the bit.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machines import Driver, Machines, Storage, ended_trials, exported, observed
from features.generated import CorpusSize, make_corpus
from orchestrator.errors import UserError
from orchestrator.storage.files import read_json
from orchestrator.training.rows import Row

KILLS = 24
ROOM = 300  # MiB of the small disk
MOST = 3  # kills in one stage of one run: without a limit a run is always starting, and no later stage is reached
SEED = 0
LIVES_IN = {"teachers": "a trial's process", "search": "a trial's process", "final": "the final actor"}
RECIPE = {"cycle_ends": [2, 6, 14], "crop_frames": 32, "batch_size": 8}
EXPERIMENT = {
    "name": "chaos",
    "corpus": {"layout": "tau", "validation_fraction": 0.3},
    "features": {"clip_seconds": 6.0, "n_mels": 32},  # long enough for Ray Data
    "teachers": {
        "one": {"model": {"width": 2}, "recipe": {**RECIPE, "cycle_ends": [2, 6, 14, 30]}, "ensemble": [14, 30]},
        "two": {"model": {"width": 3}, "recipe": {**RECIPE, "cycle_ends": [2, 6, 14, 30]}, "ensemble": [30]},
    },
    "student": {"recipe": {**RECIPE, "cycle_ends": [2, 6, 14, 30], "soft_weight": 0.5}, "average": [14, 30]},
    "search": {"trials": 16, "cycle_ends": [2, 6, 14], "lag": 2, "finalists": {"best": 2, "seeds": 1}},
}


def undisturbed(home: Path, storage: str) -> None:
    machines = Machines()
    driver = Driver(home, storage, machines.address)
    driver.process.wait()
    machines.cluster.shutdown()
    if driver.process.returncode:
        sys.exit(driver.log.read_text()[-3000:])


class Disk:
    """A small file system as the storage, whose files can be torn and which can be full."""

    def __init__(self, folder: Path) -> None:
        """Exits where this is not allowed here."""
        self.folder = folder
        folder.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m", "tmpfs", str(folder)], check=False
        ).returncode:
            sys.exit("no right to mount a small file system here, which torn files and a full disk need")

    def resize(self, size: int) -> None:
        """To so many bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def fill(self, driver: Driver) -> None:
        """Leave no room until the driver ends, or for half a minute."""
        usage = os.statvfs(self.folder)
        self.resize((usage.f_blocks - usage.f_bfree) * usage.f_frsize + 8192)
        deadline = time.monotonic() + 30.0
        while driver.is_running() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.resize(ROOM * 2**20)

    def tear(self, draw: random.Random, driver: Driver) -> set[str]:
        """As a power cut does: the driver is gone, and a file lacks its end; the trainings that it was part of."""
        driver.end(graceful=False)
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.stat().st_size]
        if not files:
            return set()
        file = draw.choice(files)
        file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
        part = self.folder.joinpath(*file.relative_to(self.folder).parts[:3])
        return {trial.parent.name for trial in part.glob("trials/*/trial.json")}

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


def disturbed(home: Path, place: Storage | Disk, storage: str, kills: int, draw: random.Random) -> dict[str, Any]:
    """Run to the end, breaking something every few seconds: `kills` times at most, in every stage at most MOST."""
    machines = Machines()
    done: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    ended: dict[str, Sequence[Row]] = {}
    repeated: set[str] = set()
    torn: set[str] = set()
    unharmed = dict(LIVES_IN)
    starts, started = 0, time.monotonic()
    driver = None
    ways: dict[str, Callable[[], Any]] = {
        "a trial's process": lambda: machines.lose_process(("Training",)),
        "the final actor": lambda: machines.lose_process(("Final",)),
        "a worker node": machines.lose_worker,
        "the driver (SIGKILL)": lambda: driver.end(graceful=False),  # type: ignore[union-attr]
        "the driver (SIGTERM)": lambda: driver.end(graceful=True),  # type: ignore[union-attr]
        "the whole cluster": machines.lose_everything,
    }
    weights: dict[str, int] = dict(zip(ways, (6, 8, 4, 4, 3, 1), strict=True))
    if isinstance(place, Disk):
        ways |= {
            "a torn file": lambda: torn.update(place.tear(draw, driver)),  # type: ignore[arg-type]
            "a full disk": lambda: place.fill(driver),  # type: ignore[arg-type]
        }
        weights |= {"a torn file": 12, "a full disk": 4}
    else:
        ways["the storage, for 8 s"] = lambda: place.fail(8.0)
        weights["the storage, for 8 s"] = 2
    while True:
        if driver is None or not driver.is_running():
            if driver is not None and driver.process.returncode == 0:
                break
            starts += 1
            if starts > 3 * kills + 10:
                print(f"lost, it does not come to an end:\n{driver.log.read_text()[-3000:] if driver else ''}")
                break
            driver = Driver(home, storage, machines.address)
        time.sleep(draw.uniform(3.0, 9.0))
        if done.total() >= kills or not driver.is_running():
            continue
        stage = stage_of(storage, home)
        if stages[stage] >= MOST:
            continue
        chosen = draw.choices(list(weights), list(weights.values()), k=4)
        if stage in unharmed:  # first of all what lives nowhere else, as soon as it is there
            chosen = [unharmed[stage]]
        for way in chosen:
            if ways[way]() is not False:  # there was such a process
                done[way] += 1
                stages[stage] += 1
                unharmed.pop(stage, None)
                print(f"{time.monotonic() - started:5.0f} s  {stage:<16}{way}", flush=True)
                break
        now = ended_trials(storage, home)
        repeated |= {name for name, rows in ended.items() if name in now and now[name] != rows}
        ended |= now
    last = ended_trials(storage, home)
    repeated |= {name for name, rows in ended.items() if last.get(name) != rows}
    repeated -= torn  # what a torn file was part of is made again, rightly
    machines.cluster.shutdown()
    seconds = time.monotonic() - started
    return {
        "finished": driver is not None and driver.process.returncode == 0,
        "kills": done,
        "stages": stages,
        "starts": starts,
        "repeated": repeated,
        "trials": len(last),
        "seconds": seconds,
    }


def stage_of(storage: str, home: Path) -> str:
    """The stage that is running now, from the run's status."""
    store = observed(storage, home)
    if store.is_remote:
        for name in store.remote.listed(""):
            if name.endswith("/status.json"):
                store.pull(store.root / name)
    for file in store.root.glob("*/status.json"):
        with suppress(UserError):  # it may be the torn one
            running = [stage["name"] for stage in read_json(file)["stages"] if stage["state"] == "running"]
            return running[0] if running else "between stages"
    return "start"


def main(arguments: list[str]) -> None:
    kills = int(arguments[0]) if arguments else KILLS
    draw = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        home, server = Path(folder), Storage()
        make_corpus(home / "corpus", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
        corpus = {**EXPERIMENT["corpus"], "root": str(home / "corpus")}
        (home / "experiment.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "corpus": corpus}))
        started = time.monotonic()
        undisturbed(home, server.uri("quiet"))
        quiet = time.monotonic() - started
        done: Counter[str] = Counter()
        stages: Counter[str] = Counter()
        rounds: list[dict[str, Any]] = []
        while done.total() < kills:
            number = len(rounds)
            place = Disk(home / f"disk-{number}") if number % 2 == 0 else server
            storage = str(place.folder) if isinstance(place, Disk) else server.uri(f"chaos-{number}")
            try:
                rounds.append(disturbed(home, place, storage, kills - done.total(), draw))
                finished = rounds[-1]["finished"]
                rounds[-1]["equal"] = finished and exported(storage, home) == exported(server.uri("quiet"), home)
                print(f"run {number + 1}: {'finished' if finished else 'lost'}, equal weights: {rounds[-1]['equal']}")
            finally:
                if isinstance(place, Disk):
                    place.close()
            done += rounds[-1]["kills"]
            stages += rounds[-1]["stages"]
    print(f"{done.total()} faults in {len(rounds)} runs: {json.dumps(done)}")
    print(f"in the stages {json.dumps(stages)}; the command was started {sum(one['starts'] for one in rounds)} times")
    print(f"{', '.join(f'{one["seconds"]:.0f}' for one in rounds)} s, undisturbed {quiet:.0f} s")
    repeated = [name for one in rounds for name in one["repeated"]]
    trials = sum(one["trials"] for one in rounds)
    lost = sum(not one["finished"] for one in rounds)
    print(f"lost runs {lost}; of {trials} trials that finished, repeated: {repeated or 'none'}")
    equal = sum(one["equal"] for one in rounds)
    print(f"exported weights equal to the undisturbed run's, to the bit: {equal} of {len(rounds)} runs")
