"""The journal of a training in the storage: another process can resume it, and the live page can show it."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from features.files import replacing
from models.fit import Epoch, Snapshot
from models.prediction import Predictions
from orchestrator.errors import UserError
from orchestrator.storage.files import write_json, write_lines
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_snapshot, load_training, save_snapshot, snapshot_name
from orchestrator.training.best import judged
from orchestrator.training.record import (
    FAILED,
    FAILURE,
    LATEST,
    ROWS,
    RUNNING,
    SCORES,
    TRIAL,
    TRIALS,
    Training,
    Trial,
    rows_of,
)
from orchestrator.training.rows import Row
from orchestrator.training.scores import Scores, load_scores, save_scores

SNAPSHOT_EVERY = 30.0  # seconds after which the next epoch that ends is saved
PUSH_EVERY = 5.0  # seconds between two versions of the rows in a remote storage, where no snapshot is saved


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


def fetch(store: Store, work: Path, exactly: bool = False) -> None:
    """Download the journals below a stage's work; the latest snapshot only of trainings that have not ended."""
    store.pull(work, exactly, lambda file: file.name != LATEST)
    running = {folder for folder in work.glob(f"{TRIALS}/*") if is_running(folder)} if store.is_remote else set()
    if running:
        store.pull(work, wanted=lambda file: file.name == LATEST and file.parent in running)


def is_running(folder: Path) -> bool:
    """Whether the record does not say that the training has ended; also where it is missing or damaged."""
    try:
        return Training.read(folder).state == RUNNING
    except (OSError, UserError):
        return True


def keep_trial(work: Path, trial: Trial, target: Path) -> None:
    """Write into an artifact what is kept of a training that has ended: record, rows, clips' scores, a failure's text.

    `trial` is the part of it that counts; its journal can hold more, such as epochs after the verdict.
    """
    source, kept = work / TRIALS / trial.name, target / TRIALS / trial.name
    kept.mkdir(parents=True)
    write_json(kept / TRIAL, asdict(trial.training))
    write_lines(kept / ROWS, trial.rows)
    scores = {epoch: found for epoch, found in load_scores(source / SCORES).items() if epoch <= trial.epochs}
    if scores:
        save_scores(kept / SCORES, scores)
    if trial.training.state == FAILED and (source / FAILURE).exists():
        shutil.copy(source / FAILURE, kept / FAILURE)


class Journal:
    """The rows, the scores and the snapshots of one training. The process that trains writes them.

    Every snapshot holds the rows until its epoch, so that weights and rows always belong together, even where a process
    that was given up for dead still writes its own.

    These snapshots are kept: the latest, from which the training resumes, and the cycle ends of `keep`, which are
    averaged or vote. Of every cycle end the scores of all validation clips are kept, so that trainings can be compared
    clip by clip afterwards.
    """

    def __init__(self, store: Store, folder: Path, keep: Sequence[int], score: Callable[[Predictions], Scores]) -> None:
        """`score` judges the predictions of the validation clips."""
        self.store, self.folder, self.keep, self.score = store, folder, keep, score
        self.rows: list[Row] = []
        self.seconds = 0.0  # that training took in processes before this one
        self.saved = self.pushed = time.monotonic()

    def resume(self, begun: Path | None = None) -> Snapshot | None:
        """The snapshot to resume from; `rows` are then those of the epochs until it.

        `begun` is the journal of a finished training that is the beginning of this one: the same on a shorter schedule.
        Where this training has no snapshot yet, it goes on from that one's.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store.pull(self.folder, exactly=True)
        latest = self.folder / LATEST
        if begun is not None and not latest.exists():
            self.adopt(begun)
        snapshot, self.rows = load_training(latest) if latest.exists() else (None, [])
        self.seconds = self.rows[-1]["seconds"] if self.rows else 0.0
        return snapshot

    def adopt(self, begun: Path) -> None:
        """Take over another training's snapshot, with its rows, and its scores."""
        self.store.pull(begun)
        epoch = load_snapshot(begun / LATEST).epoch
        names = {SCORES: SCORES, LATEST: LATEST}
        names |= {snapshot_name(epoch): LATEST} if epoch in self.keep else {}
        for name, source in names.items():
            with replacing(self.folder / name) as temporary:
                shutil.copy(begun / source, temporary)
            self.store.push(self.folder / name)

    def add(self, row: Row, epoch: Epoch, last: bool) -> None:
        """Write the row, its scores where it is judged, and a snapshot where one is due. Upload all with a snapshot.

        The rows of other epochs are uploaded at most every PUSH_EVERY seconds.
        """
        row = {**row, "seconds": self.seconds + row["seconds"]}
        self.rows.append(row)
        write_lines(self.folder / ROWS, self.rows)
        if judged([row]) and epoch.validation is not None:
            scores = {**load_scores(self.folder / SCORES), row["epoch"]: self.score(epoch.validation)}
            save_scores(self.folder / SCORES, scores)
            self.store.push(self.folder / SCORES)
        now = time.monotonic()
        if last or row["cycle_end"] or row["epoch"] in self.keep or now - self.saved >= SNAPSHOT_EVERY:
            self.save(row, epoch.snapshot())
            self.saved = now
        elif now - self.pushed < PUSH_EVERY:
            return
        self.store.push(self.folder / ROWS)
        self.pushed = now

    def save(self, row: Row, snapshot: Snapshot) -> None:
        """Write the snapshot under each of its names. LATEST comes after the others: a training resumes from it."""
        names = [snapshot_name(row["epoch"])] if row["epoch"] in self.keep else []
        for name in (*names, LATEST):
            save_snapshot(self.folder / name, snapshot, self.rows)
            self.store.push(self.folder / name)
