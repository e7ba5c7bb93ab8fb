"""What a training leaves in the storage while it runs, so that any other process can go on, and anybody can watch."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from click import unstyle

from models.fit import Epoch, Snapshot
from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, read_lines, write_json, write_lines
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_training, save_snapshot, snapshot_name
from orchestrator.training.metrics import best_row

TRIALS = "trials"  # the folder of a stage's work, and of its artifact, that has a folder for every training
TRIAL, ROWS, FAILURE = "trial.json", "rows.jsonl", "failure.txt"
LATEST, BEST = "latest.safetensors", "best.safetensors"
SNAPSHOT_EVERY = 30.0  # seconds of training that a killed process may cost
PUSH_EVERY = 5.0  # seconds between two versions of the rows in a remote storage

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"


@dataclass(frozen=True)
class Training:
    """What trial.json says: who a training is, and what became of it. The driver writes it."""

    stage: str
    trial: str  # its name
    number: int
    epochs: int  # planned
    settings: dict[str, Any] = field(default_factory=dict)
    state: str = RUNNING
    failure: str | None = None  # in one line

    @classmethod
    def read(cls, folder: Path) -> "Training":
        """Raises UserError where the record cannot be read: a search must not start afresh for that."""
        try:
            return cls(**read_json(folder / TRIAL))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the record {folder / TRIAL} cannot be read ({error}); remove its folder to train that trial again"
            ) from None

    def write(self, store: Store, work: Path) -> None:
        file = work / TRIALS / self.trial / TRIAL
        write_json(file, asdict(self))
        store.push(file)

    def fail(self, store: Store, work: Path, reason: str, text: str) -> None:
        """Record that it failed: the reason in one line, the whole error text in a file of its own."""
        file = work / TRIALS / self.trial / FAILURE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(unstyle(text))  # Ray colours it
        store.push(file)
        replace(self, state=FAILED, failure=reason).write(store, work)


@dataclass(frozen=True)
class Trial:
    """A training and what it has reached."""

    training: Training
    rows: list[dict[str, Any]]  # one an epoch

    @property
    def name(self) -> str:
        return self.training.trial

    @property
    def epochs(self) -> int:
        return self.rows[-1]["epoch"] if self.rows else 0


def trials_in(work: Path) -> list[Trial]:
    """All that are recorded below a stage's work or artifact, by number.

    Of an unfinished one the rows are those until its snapshot, from which it goes on.
    """
    found = []
    for file in work.glob(f"{TRIALS}/*/{TRIAL}"):
        training, latest = Training.read(file.parent), file.parent / LATEST
        if training.state != RUNNING:
            rows = rows_of(file.parent)
        else:
            rows = load_training(latest)[1] if latest.exists() else []
        found.append(Trial(training, rows))
    return sorted(found, key=lambda trial: trial.training.number)


def keep_trial(work: Path, trial: str, target: Path) -> None:
    """Copy into an artifact what is kept of a training that has ended: its record, its rows and its best snapshot."""
    (target / TRIALS / trial).mkdir(parents=True)
    for name in (TRIAL, ROWS, FAILURE, BEST):
        if (work / TRIALS / trial / name).exists():
            shutil.copy(work / TRIALS / trial / name, target / TRIALS / trial / name)


class Journal:
    """The rows and the snapshots of one training. The process that trains writes them.

    Every snapshot holds the rows until then, so that what is gone on from is always of one piece, even if a process
    that was given up for dead still wrote its own, which are equal.

    Snapshots are kept as long as somebody may need them: the latest, to go on from; the best cycle end; and the
    cycle ends of `keep`, which are averaged or vote.
    """

    def __init__(self, store: Store, folder: Path, keep: Sequence[int], metric: str) -> None:
        self.store, self.folder, self.keep, self.metric = store, folder, keep, metric
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0  # that training took in processes before this one
        self.saved = self.pushed = time.monotonic()

    def resume(self) -> Snapshot | None:
        """The snapshot to go on from; `rows` are then those of the epochs until it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store.pull(self.folder, exactly=True)
        latest = self.folder / LATEST
        snapshot, self.rows = load_training(latest) if latest.exists() else (None, [])
        self.seconds = self.rows[-1]["seconds"] if self.rows else 0.0
        return snapshot

    def add(self, row: dict[str, Any], epoch: Epoch, last: bool) -> None:
        """Record an epoch."""
        row = {**row, "seconds": self.seconds + row["seconds"]}
        self.rows.append(row)
        write_lines(self.folder / ROWS, self.rows)
        now = time.monotonic()
        if last or row["cycle_end"] or row["epoch"] in self.keep or now - self.saved >= SNAPSHOT_EVERY:
            self.save(row, epoch.snapshot())
            self.saved = now
        elif now - self.pushed < PUSH_EVERY:
            return
        self.store.push(self.folder / ROWS)
        self.pushed = now

    def save(self, row: dict[str, Any], snapshot: Snapshot) -> None:
        """Write the snapshot under each of the names that it deserves; the one to go on from last."""
        names = [snapshot_name(row["epoch"])] if row["epoch"] in self.keep else []
        names += [BEST] if row["cycle_end"] and self.is_best(row) else []
        for name in (*names, LATEST):
            save_snapshot(self.folder / name, snapshot, self.rows)
            self.store.push(self.folder / name)

    def is_best(self, row: dict[str, Any]) -> bool:
        """Whether no earlier cycle end was judged better."""
        ends = [other for other in self.rows if other["cycle_end"]]
        return row[self.metric] is not None and row is best_row(ends, self.metric)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a training that has ended."""
    return read_lines(folder / ROWS)
