"""A storage 40 ms away: requests of a small object, a search of 1,000 trials published, what the driver waits for.

The peer is the same server without the 40 ms. It is moto, in Python: its own time is shown, a real one has less.
"""

import functools
import io
import os
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.distant import Distant
from benchmarks.machines import CREDENTIALS, mirrored
from benchmarks.small import experiment
from orchestrator.cluster.connection import connected
from orchestrator.monitor.progress import shown
from orchestrator.monitor.status import About, Status
from orchestrator.monitor.view import View
from orchestrator.run import run
from orchestrator.stages.recorder import Recorder
from orchestrator.storage.files import write_json, write_lines
from orchestrator.storage.store import Store
from orchestrator.storage.work import working
from orchestrator.training.journal import fetch, keep_trial, trials_in
from orchestrator.training.record import FINISHED, LATEST, ROWS, SCORES, TRIAL, TRIALS, Training
from orchestrator.training.rows import STAGES
from orchestrator.training.scores import Scores, save_scores

DISTANCE = 0.04  # seconds a request
MANY, ENDS = 1000, (2, 6, 14)
EPOCHS = ENDS[-1]
CLIPS = 1000  # of the validation split
RUNS = 100
SNAPSHOT = 500_000  # bytes, as a student's weights, averages and rows have
EVENTS = ("on_trial_start", "on_trial_result", "on_trial_complete")
SEARCH = ["search.trials=24", "search.finalists=0", "search.cycle_ends=[1, 2, 4, 8, 16]", "search.stopping=none"]


def main(arguments: list[str]) -> None:
    parts = {"small": small_object, "list": listing, "publish": publication, "driver": driver}
    os.environ |= CREDENTIALS
    os.environ.pop("STILLHOUSE_MIRROR", None)
    for seconds in (0.0, DISTANCE):
        with tempfile.TemporaryDirectory() as folder, Distant(seconds) as place:
            home = Path(folder)
            os.environ["STILLHOUSE_MIRROR"] = str(home / "mirror")
            print(f"{1000 * seconds:.0f} ms a request")
            for part in arguments or parts:
                parts[part](home, place)


def small_object(_home: Path, place: Distant) -> None:
    """Requests of one small file, there and back."""
    store = Store(place.uri("small"))
    file = store.root / "one" / "trial.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    place.counted()
    store.push(file)
    written = place.counted()
    file.unlink()
    store.pull(file)
    print(f"  a small object: written {dict(written)}, read {dict(place.counted())}")


def listing(_home: Path, place: Distant) -> None:
    """What `list` and `status` ask of the storage: how far runs are."""
    store = Store(place.uri("listed"))
    for number in range(RUNS):
        folder = store.root / f"demo-{number}"
        folder.mkdir(parents=True)
        Status(store, folder, STAGES, About("demo", folder.name, "log_loss", False)).write()
    for count in (1, RUNS):
        place.counted()
        started = time.monotonic()
        found = shown({f"demo-{number}": (store.uri, f"demo-{number}") for number in range(count)})
        seconds = time.monotonic() - started
        assert all(line != "-" for line in found.values()), found
        print(f"  how far {count} runs are: {seconds:.2f} s, {place.counted().total()} requests")


def publication(home: Path, place: Distant) -> None:
    """What the driver does at the end of a search: it fetches what its trials wrote, publishes, and tidies up."""
    store, elsewhere = Store(place.uri("published")), home / "elsewhere"
    theirs = mirrored(place.uri("published"), elsewhere)  # the trials' nodes have another mirror
    ours, made = (one.root / "work" / "search" / "k" for one in (store, theirs))
    for number in range(1, MANY + 1):
        name = f"student-{number:04d}"
        (ours / TRIALS / name).mkdir(parents=True)
        write_json(ours / TRIALS / name / TRIAL, asdict(Training("search", name, number, EPOCHS, state=FINISHED)))
        write_journal(made / TRIALS / name, number)
    store.push(ours)
    theirs.push(made)
    place.counted()
    server, own, started = place.seconds, time.process_time(), time.monotonic()
    parts: dict[str, float] = {}

    def done(part: str) -> None:
        parts[part] = time.monotonic() - started - sum(parts.values())

    with working(store, "search", "k", fetch=fetch) as work:
        done("fetched")
        with store.publish("search", "k") as target:
            for trial in trials_in(work.folder):
                keep_trial(work.folder, trial, target)
            chosen = work.folder / TRIALS / "student-0001" / LATEST
            store.pull(chosen)
            shutil.copy(chosen, target / LATEST)
            write_json(target / "stage.json", {"seconds": 1.0})
        done("published")
        work.discard()
    done("tidied up")
    listed = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in parts.items())
    requests = place.counted().total()
    print(
        f"  {MANY} trials: {sum(parts.values()):.1f} s ({listed}), {requests} requests, "
        f"of a core {time.process_time() - own:.1f} s here, {place.seconds - server:.1f} s of server and relay"
    )


def write_journal(folder: Path, number: int) -> None:
    """What the process of a training has written when it ends; how it ended the driver has written."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(number)
    numbers = ("loss", "learning_rate", "accuracy", "log_loss", "clips_per_second", "seconds")
    row = dict.fromkeys(numbers, 1.0) | {"cycle_end": False}
    write_lines(folder / ROWS, [{"epoch": epoch, **row} for epoch in range(1, EPOCHS + 1)])
    clips = Scores(draw.random(CLIPS, np.float32), draw.random(CLIPS) < 0.5)
    save_scores(folder / SCORES, dict.fromkeys(ENDS, clips))
    (folder / LATEST).write_bytes(draw.bytes(SNAPSHOT))


def driver(home: Path, place: Distant) -> None:
    """How long the driver is blocked by an event, and how often leases and status are written."""
    taken: dict[str, list[float]] = defaultdict(list)

    def timed(name: str) -> Any:
        method = getattr(Recorder, name)

        @functools.wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                taken[name].append(time.perf_counter() - started)

        return call

    before = {name: getattr(Recorder, name) for name in EVENTS}
    for name in EVENTS:
        setattr(Recorder, name, timed(name))
    config = experiment(home, SEARCH, segments=2)
    place.counted()
    started = time.monotonic()
    try:
        with connected():
            run(config, Store(place.uri("driver")), View(Console(file=io.StringIO())))
    finally:
        for name, method in before.items():
            setattr(Recorder, name, method)
    seconds, requests = time.monotonic() - started, place.counted()
    for name, times in taken.items():
        middle, most = np.quantile(times, [0.5, 0.99]) * 1000
        print(f"  {name}: {len(times)} times, median {middle:.1f} ms, 99 % within {most:.1f} ms")
    kinds: Counter[str] = Counter()
    for request, count in requests.items():
        kinds["lease and status" if request.endswith(("lease.json", "status.json")) else "others"] += count
    rates = ", ".join(f"{kind} {count} ({count / seconds:.2f} a second)" for kind, count in sorted(kinds.items()))
    print(f"  a run of {seconds:.0f} s, 24 trials: {rates}")
    print(f"  most of all: {', '.join(f'{request} {count}' for request, count in requests.most_common(8))}")
