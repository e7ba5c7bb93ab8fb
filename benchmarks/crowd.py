"""The driver with many trials: 500 at once, 2,000 in all, that only take time on paper.

Proposals, verdicts and records are the driver's own; what Tune and Ray add is not in it. Measured are the events that
the driver takes in a second, what it waits for each, its memory, and how many epochs a trial goes on after a rung until
the verdict falls.
"""

import heapq
import io
import random
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from rich.console import Console

from benchmarks.replay import row_of
from orchestrator.config.loading import load
from orchestrator.monitor.view import View
from orchestrator.stages.proposals import Proposals
from orchestrator.stages.recorder import Recorder
from orchestrator.stages.rounds import Rounds
from orchestrator.stages.search import no_snapshots, recalled, trial_task
from orchestrator.stages.trainable import Plan
from orchestrator.stages.tuning import Scheduler
from orchestrator.storage.store import Store
from orchestrator.training.rows import Row

AT_ONCE, TRIALS = 500, 2000
ENDS = (2, 6, 14)
JITTER = 0.12  # of an epoch's time, as measured on two cores


def main(arguments: list[str]) -> None:
    at_once, trials = map(int, arguments) if arguments else (AT_ONCE, TRIALS)
    config = load(
        "demo",
        [
            f"search={{trials: {trials}, cycle_ends: {list(ENDS)}, finalists: 0, lag: {at_once}}}",
            "search.sampler=sobol",  # what proposals of TPE take is Optuna's
        ],
    )
    verdicts = recalled(config, [])
    rounds = Rounds(config, verdicts)
    proposals, scheduler = Proposals(rounds, []), Scheduler(verdicts)
    draw = random.Random(0)
    spent = defaultdict[str, list[float]](list)
    reached = [[] for _ in verdicts.rungs]  # trials without a verdict, and since when they are at the rung
    delays: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        plan = Plan("run", store, store.root / "work", lambda one: trial_task(config, one), no_snapshots, "cpu")
        with View(Console(file=io.StringIO())).stage("search") as bar:
            recorder = Recorder(plan, bar, verdicts, lambda: rounds.total, ENDS[-1])
            memory = psutil.Process().memory_info().rss
            events: list[tuple[float, int, int, SimpleNamespace]] = []
            now, is_over = 0.0, False
            while not is_over or events:
                while not is_over and len(events) < at_once:
                    suggested = timed(spent["proposal"], proposals.suggest, "")
                    if not isinstance(suggested, dict):
                        is_over = suggested is not None
                        break
                    trial = SimpleNamespace(config=suggested, last_result={})
                    timed(spent["start"], scheduler.on_trial_add, None, trial)
                    timed(spent["start"], recorder.on_trial_start, 0, [], trial)
                    heapq.heappush(events, (now + length(draw), suggested["trial"]["number"], 1, trial))
                now, number, epoch, trial = heapq.heappop(events)
                row = {**reached_by(draw, epoch), "done": epoch == ENDS[-1]}
                trial.last_result = row
                is_stopped = timed(spent["result"], scheduler.on_trial_result, None, trial, row) == "STOP"
                timed(spent["result"], recorder.on_trial_result, 0, [], trial, row)
                for place, rung in enumerate(verdicts.rungs):
                    if epoch == rung.epoch:
                        reached[place].append((number, now))
                    waiting = [
                        (other, when) for other, when in reached[place] if not has_fallen(verdicts, other, place)
                    ]
                    if len(waiting) < len(reached[place]):
                        left = dict(waiting)
                        delays += [now - when for other, when in reached[place] if other not in left]
                        reached[place] = waiting
                if is_stopped or row["done"]:
                    timed(spent["end"], scheduler.on_trial_complete, None, trial, row)
                    timed(spent["end"], recorder.on_trial_complete, 0, [], trial)
                else:
                    heapq.heappush(events, (now + length(draw), number, epoch + 1, trial))
            recorder.finish()
    show(spent, delays, psutil.Process().memory_info().rss - memory, verdicts)


def timed(spent: list[float], call: Any, *arguments: Any) -> Any:
    started = time.perf_counter()
    try:
        return call(*arguments)
    finally:
        spent.append(time.perf_counter() - started)


def length(draw: random.Random) -> float:
    """Of an epoch, in mean epochs."""
    return max(0.1, draw.gauss(1, JITTER))


def reached_by(draw: random.Random, epoch: int) -> Row:
    return {**row_of(epoch, draw.random() + 3 / epoch), "cycle_end": epoch in ENDS}


def has_fallen(verdicts: Any, number: int, place: int) -> bool:
    return number in verdicts.stopped or verdicts.passed[number] > place


def show(spent: dict[str, list[float]], delays: list[float], memory: int, verdicts: Any) -> None:
    count, seconds = sum(map(len, spent.values())), sum(map(sum, spent.values()))
    print(f"{len(verdicts.trials)} trials, {len(verdicts.stopped)} stopped; {count / seconds:,.0f} events a second")
    for name, times in spent.items():
        ordered = sorted(times)
        print(
            f"{name}: median {1000 * statistics.median(ordered):.2f} ms, "
            f"p99 {1000 * ordered[int(0.99 * len(ordered))]:.2f} ms, in all {sum(ordered):.1f} s"
        )
    ordered = sorted(delays)
    print(
        f"verdicts fall after p50 {statistics.median(ordered):.2f}, p99 {ordered[int(0.99 * len(ordered))]:.2f} epochs"
    )
    print(f"memory {memory / 2**20:+.0f} MiB")
