"""The journal of a training in the storage: another process can resume it, and the live page can show it."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from models.fit import Epoch, Snapshot
from orchestrator.storage.files import write_lines
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_training, save_snapshot, snapshot_name
from orchestrator.training.best import best_of, judged
from orchestrator.training.record import BEST, FAILURE, LATEST, ROWS, RUNNING, TRIAL, TRIALS, Training, Trial, rows_of
from orchestrator.training.rows import Metric, Row

SNAPSHOT_EVERY = 30.0  # seconds after which the next epoch that ends is saved
PUSH_EVERY = 5.0  # seconds between two versions of the rows in a remote storage


def trials_in(work: Path) -> list[Trial]:
    """All that are recorded below a stage's work or artifact, by number.

    The rows of an unfinished one end at its snapshot, from which it resumes.
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

    Every snapshot holds the rows until its epoch, so that weights and rows always belong together, even where a process
    that was given up for dead still writes its own.

    These snapshots are kept: the latest, from which the training resumes; the best cycle end; and the
    cycle ends of `keep`, which are averaged or vote.
    """

    def __init__(self, store: Store, folder: Path, keep: Sequence[int], metric: Metric) -> None:
        self.store, self.folder, self.keep = store, folder, keep
        self.metric: Metric = metric
        self.rows: list[Row] = []
        self.seconds = 0.0  # that training took in processes before this one
        self.saved = self.pushed = time.monotonic()

    def resume(self) -> Snapshot | None:
        """The snapshot to resume from; `rows` are then those of the epochs until it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store.pull(self.folder, exactly=True)
        latest = self.folder / LATEST
        snapshot, self.rows = load_training(latest) if latest.exists() else (None, [])
        self.seconds = self.rows[-1]["seconds"] if self.rows else 0.0
        return snapshot

    def add(self, row: Row, epoch: Epoch, last: bool) -> None:
        """Write the row, save a snapshot where one is due, and upload the rows at most every PUSH_EVERY seconds."""
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

    def save(self, row: Row, snapshot: Snapshot) -> None:
        """Write the snapshot under each of its names; last under LATEST, from which a training resumes."""
        names = [snapshot_name(row["epoch"])] if row["epoch"] in self.keep else []
        names += [BEST] if row["cycle_end"] and self.is_best(row) else []
        for name in (*names, LATEST):
            save_snapshot(self.folder / name, snapshot, self.rows)
            self.store.push(self.folder / name)

    def is_best(self, row: Row) -> bool:
        """Whether this cycle end is better than every earlier one."""
        return best_of(judged(self.rows), self.metric, lambda end: end) is row
