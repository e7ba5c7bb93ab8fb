"""The trainings of a run as the page shows them, read from the folders of its stages."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

from orchestrator.report.formats import finite, shortened
from orchestrator.report.points import drawn, points_each
from orchestrator.training.best import Standing, standing
from orchestrator.training.record import FAILED, FAILURE, ROWS, TRIAL, TRIALS, State, Training
from orchestrator.training.rows import Row, is_row
from orchestrator.training.table import Cell, as_column
from orchestrator.watch.files import is_link, is_plain, read

log = logging.getLogger("stillhouse")
CYCLE_END = '"cycle_end": true'  # of a line of rows.jsonl, as it is written


class Curve(TypedDict):
    """A training's epochs, or some of very many, a list a quantity; null where there is no number."""

    epoch: list[int]
    cycle_end: list[bool]
    loss: list[float | None]
    accuracy: list[float | None]
    log_loss: list[float | None]
    learning_rate: list[float | None]


class Progress(TypedDict):
    """How far a training is and what it has reached."""

    epoch: int  # the last one
    reached: int  # the epoch that accuracy and log_loss are of
    accuracy: float | None
    log_loss: float | None
    learning_rate: float | None
    clips_per_second: float | None
    seconds: float | None
    curve: Curve


class TrialView(Progress):
    """A training as state.json has it."""

    id: str
    stage: str
    trial: str
    number: int
    seed: int  # 0 in the search's first round
    cut: str  # which cut of the recordings it is trained on; empty: the run's own
    state: State | Literal["interrupted"]
    failure: str | None
    epochs: int  # planned
    settings: dict[str, Cell]
    log: bool  # whether /log/STAGE/TRIAL has the text of its failure


@dataclass(frozen=True)
class Watched:
    """A training as it is read: what is shown of it, and what is not."""

    view: TrialView
    folder: Path
    standing: Standing | None  # against the others of its stage; None of one that failed, or of a later round


class Reader:
    """Reads trials; what has not changed since is not parsed again."""

    def __init__(self) -> None:
        self.parsed: dict[Path, tuple[tuple[int, int, int], Any]] = {}

    def trials(self, stage: str, folders: Sequence[Path]) -> list[Watched]:
        """The trials of a stage by number. Of a trial in several folders the last one's record counts."""
        found: dict[str, Watched] = {}
        files = [file for folder in folders for file in folder.glob(f"{TRIALS}/*/{TRIAL}")]
        points = points_each(len(files))
        for file in files:
            trial = None if is_link(file.parent) else self.trial(stage, file.parent, points)
            if trial:
                found[trial.view["trial"]] = trial
        return sorted(found.values(), key=lambda trial: trial.view["number"])

    def trial(self, stage: str, folder: Path, points: int) -> Watched | None:
        """One trial as the page shows it, its curve of so many points; None where its record is damaged."""
        record = self.cached(folder / TRIAL, partial(record_of, folder / TRIAL))
        if record is None:
            return None
        read_rows = partial(reading, record.trial, points)
        progress, reached = self.cached(folder / ROWS, read_rows, points) or read_rows("")
        view: TrialView = {
            "id": f"{stage}/{record.trial}",
            "stage": stage,
            "trial": record.trial,
            "number": record.number,
            "seed": record.seed,
            "cut": record.cut,
            "state": record.state,
            "failure": record.failure,
            "epochs": record.epochs,
            "settings": {name: as_column(value) for name, value in record.settings.items()},
            "log": is_plain(folder / FAILURE),
            **progress,
        }
        is_candidate = record.state != FAILED and record.is_first
        return Watched(view, folder, reached if is_candidate else None)

    def cached[T](self, file: Path, parse: Callable[[str], T], way: int = 0) -> T | None:
        """What `parse` makes of the file's text; None where there is no file. `way` differs where `parse` does."""
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        version = (status.st_mtime_ns, status.st_size, way)
        if self.parsed.get(file, (None, None))[0] != version:
            text = read(file)
            self.parsed[file] = (version, None if text is None else parse(text))
        return self.parsed[file][1]


def record_of(file: Path, text: str) -> Training | None:
    """Read a trial.json. None where it is damaged: the page shows the other trials, and the terminal says so."""
    try:
        return Training.of(json.loads(text))
    except (ValueError, RecursionError):
        log.warning("%s is damaged: the page leaves its training out", file)
        return None


def row_in(line: str) -> Row | None:
    """The row of a line; None where it is torn, or none: its writer may be in the middle of it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if is_row(row) else None


def complete_rows(text: str, most: int) -> list[Row]:
    """The rows that are drawn, `most` at most, until the first that is torn. No others are parsed."""
    lines = text.splitlines()
    while lines and row_in(lines[-1]) is None:
        lines.pop()
    ends = [place for place, line in enumerate(lines) if CYCLE_END in line]
    rows: list[Row] = []
    for place in drawn(len(lines), ends, most):
        if (row := row_in(lines[place])) is None:
            break
        rows.append(row)
    return rows


def reading(trial: str, most: int, text: str) -> tuple[Progress, Standing | None]:
    """Read a trial's rows.jsonl, or `most` of its rows."""
    rows = complete_rows(text, most)
    return progress_of(rows), standing(trial, rows)


def progress_of(rows: Sequence[Row]) -> Progress:
    """How far a training is, what it has reached, and its curves.

    Shown is the last cycle end, where trials are compared; before the first, the last epoch.
    """
    measured = [row for row in rows if finite(row["log_loss"]) and finite(row["accuracy"])]
    reached = ([row for row in measured if row["cycle_end"]] or measured or [None])[-1]
    last = rows[-1] if rows else None
    return {
        "epoch": last["epoch"] if last else 0,
        "reached": reached["epoch"] if reached else 0,
        "accuracy": shortened(reached["accuracy"]) if reached else None,
        "log_loss": shortened(reached["log_loss"]) if reached else None,
        "learning_rate": shortened(last["learning_rate"]) if last else None,
        "clips_per_second": shortened(last["clips_per_second"]) if last else None,
        "seconds": shortened(last["seconds"]) if last else None,
        "curve": {
            "epoch": [row["epoch"] for row in rows],
            "cycle_end": [bool(row["cycle_end"]) for row in rows],
            "loss": [shortened(row["loss"]) for row in rows],
            "accuracy": [shortened(row["accuracy"]) for row in rows],
            "log_loss": [shortened(row["log_loss"]) for row in rows],
            "learning_rate": [shortened(row["learning_rate"]) for row in rows],
        },
    }
