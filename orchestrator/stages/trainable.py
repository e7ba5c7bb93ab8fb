"""One training as a Ray Tune trial."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from ray import tune

from features.corpus import CorpusError
from models.batches import Clips
from models.fit import Diverged, Epoch, Fit, alone
from models.static import Static
from orchestrator.errors import UserError
from orchestrator.monitor.telemetry import Telemetry
from orchestrator.monitor.tensorboard import to_tensorboard
from orchestrator.storage.store import Store
from orchestrator.storage.work import require_versions
from orchestrator.training.data import Split
from orchestrator.training.journal import Journal
from orchestrator.training.record import TRIAL, TRIALS, Training
from orchestrator.training.rows import Row
from orchestrator.training.task import Task, placed, score, train, usable

STUDENTS = "students of the search, one after another"  # on Ray's Actors page
STEP = 2.0  # seconds: every step costs the driver some milliseconds, which short epochs cannot spare


@dataclass(frozen=True)
class Plan:
    """What the trainings of a stage have in common."""

    run: str  # name of the run's folder, for the metrics
    store: Store
    work: Path
    task_of: Callable[[Training], Task]
    keep_of: Callable[[Training], tuple[int, ...]]  # cycle ends whose snapshots are needed later
    device: str  # "cuda" where trials have a share of a GPU, or "cpu"
    reuses_processes: bool = False  # for trainings so short that a process's start would count
    together: int = 1  # trainings that a process trains as one


type Cuts = Mapping[str, tuple[Split, Split]]
"""The training and validation split of each cut."""


class Running:
    """A training in this process: what it trains, writes and reports."""

    def __init__(self, plan: Plan, cuts: Cuts, training: Training, check: Callable[[], object]) -> None:
        """`check` raises UserError where this process has other versions than the work."""
        self.plan, self.training, self.check = plan, training, check
        self.data, self.validation = cuts[training.cut]
        self.telemetry = Telemetry(plan.run, training.stage, training.trial)
        self.epochs: Iterator[tuple[Row, Epoch]] | None = None

    def step(self) -> dict[str, Any]:
        """Train the next epochs. Tune's result is the last row, or a failure that a retry would repeat."""
        try:
            return self.next_epochs()
        except Diverged as error:
            # A result like any other, only the worst possible: repeating it would end alike.
            return {**WORST, "failure": str(error)}
        except (OSError, UserError, CorpusError) as error:  # not the recipe's fault: the experiment ends
            return {**WORST, "outage": reason_of(error)}

    def next_epochs(self) -> dict[str, Any]:
        """Train the next epochs. After a resume, first report the snapshot's epoch, which may not have been yet."""
        started = time.monotonic()
        if self.epochs is None:
            self.epochs = self.begin()
            if self.journal.rows:
                return self.result(self.journal.rows[-1])
        for row, epoch in self.epochs:
            self.journal.add(row, epoch, last=row["epoch"] == self.training.epochs)
            self.telemetry.report(row)
            if row["cycle_end"]:
                to_tensorboard(self.plan.store, self.plan.run, self.training, self.journal.rows)
            if row["cycle_end"] or time.monotonic() - started > STEP:
                break
        return self.result(self.journal.rows[-1])

    def begin(self) -> Iterator[tuple[Row, Epoch]]:
        """Its epochs, from its snapshot on where it has one."""
        plan = self.plan
        self.task = replace(plan.task_of(self.training), device=usable(plan.device))
        self.check()
        folder = plan.work / TRIALS / self.training.trial
        self.journal = Journal(
            plan.store, folder, plan.keep_of(self.training), partial(score, self.validation, self.task)
        )
        snapshot = self.journal.resume()
        if not (folder / TRIAL).exists():
            self.training.write(plan.store, plan.work)
        return train(self.task, self.data, self.validation, snapshot, self.epoch, self.placed)

    def epoch(self, training: Fit) -> Epoch:
        """Train the next epoch."""
        return alone(training)

    def placed(self, task: Task, train: Split, validation: Split) -> tuple[Clips, Static]:
        """The clips to train on, and those to validate on, on the task's device."""
        return placed(task, train, validation)

    def result(self, row: Row) -> dict[str, Any]:
        """The row as Tune's result."""
        return {**row, "done": row["epoch"] == self.training.epochs}

    def leave(self) -> None:
        """A training that was stopped says so in the log of its actor's page."""
        rows = self.journal.rows if self.epochs is not None else []
        if rows and rows[-1]["epoch"] < self.training.epochs:
            print(f"{self.training.trial} is stopped after epoch {rows[-1]['epoch']}", flush=True)


class FitTrial(tune.Trainable):
    """One training as a Tune trial: a step is as many epochs as fit into a moment, but ends where a cycle ends.

    A class, because Ray's Actors page shows a class trainable by its `__repr__`. Ray asks for that once in a process,
    so a process that trains one trial after another is named after what they have in common.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride] - Tune passes with_parameters' values here
        self, config: dict[str, Any], plan: Plan, cuts: Cuts
    ) -> None:
        """Called by Tune once in every process."""
        self.plan, self.cuts = plan, cuts
        self.check = versions_check(plan)
        self.running = self.given(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune where the process, done with one training, is given the next."""
        self.cleanup()
        self.running = self.given(new_config)
        return True

    def given(self, config: Mapping[str, Any]) -> Running:
        """The training of a configuration."""
        return Running(self.plan, self.cuts, Training(**config["trial"]), self.check)

    def cleanup(self) -> None:
        """Called by Tune at a process's end."""
        self.running.leave()

    def __repr__(self) -> str:
        return STUDENTS if self.plan.reuses_processes else self.running.training.trial

    def step(self) -> dict[str, Any]:
        return self.running.step()


def versions_check(plan: Plan) -> Callable[[], object]:
    """Raises UserError where this process has other versions than the work; looks until it has seen that it has not."""
    return cache(lambda: require_versions(plan.store, plan.work))


def reason_of(error: OSError | UserError | CorpusError) -> str:
    """One line: what failed of the storage, or the error itself."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'storage'}: {error.strerror}"
    return str(error)


WORST = {"log_loss": math.inf, "accuracy": 0.0, "epoch": 0, "cycle_end": False, "done": True}
