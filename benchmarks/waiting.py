"""Many real Ray Tune trials that only wait: what the driver takes, its memory, and when verdicts fall.

    python -m benchmarks waiting [AT_ONCE TRIALS SECONDS HOSTS]     trials at once and in all; seconds of an epoch

Each trial sleeps in the place of training; proposals, verdicts, records and Tune are those of a search. A trial claims
one of AT_ONCE CPUs that this machine does not have. With HOSTS = 0 each is a process of Ray, of 140 MB. Where that is
more than the machine has, HOSTS processes run them in threads: what comes to the driver comes from Ray all the same.
`crowd` has what needs neither.
"""

import io
import itertools
import logging
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psutil
import ray
from ray import tune
from ray.actor import ActorClass

AT_ONCE, TRIALS, SECONDS, HOSTS = 500, 2000, 10.0, 5
ENDS = (2, 6, 14)


class Waiting(tune.Trainable):
    """An epoch is a sleep."""

    def setup(self, config: dict[str, Any], plan: Any, cuts: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.draw = random.Random(new_config["trial"]["number"])
        self.seconds, self.epoch = float(new_config["trial"]["settings"]["seconds"]), 0
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.seconds * max(0.1, self.draw.gauss(1, 0.12)))
        self.epoch += 1
        metrics = {"loss": 1.0, "log_loss": self.draw.random() + 3 / self.epoch, "accuracy": 0.5, "seconds": 0.0}
        cycle = {"epoch": self.epoch, "cycle_end": self.epoch in ENDS, "done": self.epoch == ENDS[-1]}
        return {**metrics, **cycle, "reported": time.time()}


class Host:
    """A process that has many trials, each in a thread."""

    def __init__(self) -> None:
        self.trials: dict[int, tune.Trainable] = {}

    def make(self, number: int, trainable: type[tune.Trainable], settings: dict[str, Any]) -> None:
        self.trials[number] = trainable(**settings)

    def call(self, number: int, method: str, *arguments: Any, **named: Any) -> Any:
        return getattr(self.trials[number], method)(*arguments, **named)


class Hosted(ActorClass):
    """What Tune takes for the class of an actor: one of these is a place in a host."""

    def __init__(self, trainable: type[tune.Trainable], hosts: "itertools.cycle[Any]", numbers: "itertools.count[int]"):
        self.trainable, self.hosts, self.numbers = ray.put(trainable), hosts, numbers

    def options(self, **_resources: Any) -> "Hosted":
        """The resources are claimed by the trial's placement group, which no process is in."""
        return self

    def remote(self, **settings: Any) -> Any:
        host, number = next(self.hosts), next(self.numbers)
        return Handle(host, number, lambda: host.make.remote(number, self.trainable, settings))


class Handle:
    """What Tune takes for an actor's handle."""

    def __init__(self, host: Any, number: int, make: Callable[[], Any]) -> None:
        self.host, self.number = host, number
        self.__ray_ready__ = SimpleNamespace(remote=make)

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *one, **two: self.host.call.remote(self.number, method, *one, **two))


def in_hosts(count: int, at_once: int) -> Any:
    """For the block, Tune's trials are in so many processes; each in one of its own where the count is 0."""
    if not count:
        return nullcontext()
    host: Any = ray.remote(num_cpus=0, max_concurrency=2 * at_once)(Host)  # pyright: ignore - of overloads
    hosts, numbers = itertools.cycle([host.remote() for _ in range(count)]), itertools.count()
    classes: dict[Any, Hosted] = {}

    def get(_cache: Any, trainable: Any) -> Hosted:
        return classes.get(trainable) or classes.setdefault(trainable, Hosted(trainable, hosts, numbers))

    return patch("ray.tune.execution.tune_controller._ActorClassCache.get", get)


def main(arguments: list[str]) -> None:
    from rich.console import Console

    from orchestrator.cluster.connection import quieten
    from orchestrator.config.experiment import Resources
    from orchestrator.config.loading import load
    from orchestrator.monitor.view import View
    from orchestrator.stages import tuning
    from orchestrator.stages.proposals import Proposals
    from orchestrator.stages.recorder import Recorder
    from orchestrator.stages.rounds import Rounds
    from orchestrator.stages.search import no_snapshots, recalled
    from orchestrator.stages.trainable import Plan
    from orchestrator.storage.store import Store

    at_once, trials = map(int, arguments[:2]) if arguments else (AT_ONCE, TRIALS)
    seconds = float(arguments[2]) if arguments[2:] else SECONDS
    hosts = int(arguments[3]) if arguments[3:] else HOSTS
    config = load(
        "demo",
        [
            f"search={{trials: {trials}, cycle_ends: {list(ENDS)}, finalists: 0, lag: {at_once}}}",
            "search.sampler=sobol",
        ],
    )
    verdicts = recalled(config, [])
    late, reached, delays = list[float](), dict[tuple[int, int], float](), list[float]()

    class Timed(tuning.Scheduler):
        """Notes how late a result comes, and how long after its rung each verdict falls."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
            answer = super().on_trial_result(tune_controller, trial, result)
            late.append(time.time() - result["reported"])
            for place, rung in enumerate(self.verdicts.rungs):
                if rung.epoch == result["epoch"]:
                    reached[trial.config["trial"]["number"], place] = result["reported"]
            for number, place in list(reached):
                if number in self.verdicts.stopped or self.verdicts.passed[number] > place:
                    delays.append(time.time() - reached.pop((number, place)))
            return answer

    class Proposed(Proposals):
        """Tells each trial how long its epochs are."""

        def suggest(self, trial_id: str) -> Any:
            found = super().suggest(trial_id)
            if isinstance(found, dict):
                settings = {**found["trial"]["settings"], "seconds": seconds}
                found = {"trial": {**found["trial"], "settings": settings}}
            return found

    tuning.FitTrial, tuning.Scheduler = Waiting, Timed  # pyright: ignore - the product has one trainable
    quieten()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it misses files that nobody needs
    driver = psutil.Process()
    ray.init(
        num_cpus=at_once,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _system_config={"prestart_worker_first_driver": False},  # a process for every CPU
    )
    before, most, ended = driver.memory_info().rss, [0, 0], threading.Event()
    watcher = threading.Thread(target=watch, args=(driver, most, ended), daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder, View(Console(file=io.StringIO())).stage("search") as bar:
        store = Store(Path(folder))
        plan = Plan("run", store, store.root / "work", lambda one: None, no_snapshots, "cpu", True)  # pyright: ignore
        rounds = Rounds(config, verdicts)
        recorder = Recorder(plan, bar, verdicts, lambda: rounds.total, ENDS[-1])
        started, clock = time.monotonic(), sum(driver.cpu_times()[:2])
        with in_hosts(hosts, at_once):
            tuning.run_trials(
                plan, verdicts, recorder, [], Resources(), num_samples=rounds.total, search_alg=Proposed(rounds, [])
            )
        wall, cpu = time.monotonic() - started, sum(driver.cpu_times()[:2]) - clock
    ended.set()
    watcher.join()
    where = f"in {hosts} processes" if hosts else f"at most {most[1]} processes at once"
    print(f"{trials} trials, {len(verdicts.stopped)} stopped, {at_once} places, {where}, {wall:.0f} s")
    print(f"{len(late) / wall:.0f} results a second came; {1000 * cpu / len(late):.1f} ms of the driver's CPU each")
    for name, times in (("a result is taken after", late), ("a verdict falls after", delays)):
        ordered = sorted(times)
        print(f"{name} p50 {statistics.median(ordered):.2f} s, p99 {ordered[int(0.99 * len(ordered))]:.2f} s")
    print(f"driver's memory {before / 2**20:.0f} MiB, at most {most[0] / 2**20:.0f}")


def watch(driver: psutil.Process, most: list[int], ended: threading.Event) -> None:
    """Keep the driver's largest memory, and the largest number of trials' processes."""
    while not ended.wait(2):
        most[0] = max(most[0], driver.memory_info().rss)
        names = [process.info["name"] or "" for process in psutil.process_iter(["name"])]
        most[1] = max(most[1], sum(name.startswith("ray::Training") for name in names))
