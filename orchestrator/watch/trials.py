"""The trainings of a run as the page shows them, read from the folders of its stages."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.report.charts import shortened
from orchestrator.report.folder import finite
from orchestrator.training.metrics import rank
from orchestrator.watch.files import read

Trial = dict[str, Any]

CURVES = ("loss", "accuracy", "log_loss", "learning_rate")


class Reader:
    """Reads trials; what has not changed since is not parsed again."""

    def __init__(self) -> None:
        self.parsed: dict[Path, tuple[tuple[int, int], Any]] = {}

    def trials(self, stage: str, folders: Sequence[Path]) -> list[Trial]:
        """The trials of a stage by number. Of a trial in several folders the last one's record counts."""
        found: dict[str, Trial] = {}
        for folder in folders:
            for file in folder.glob("trials/*/trial.json"):
                trial = self.trial(stage, file.parent)
                if trial:
                    found[trial["trial"]] = trial
        return sorted(found.values(), key=lambda trial: trial["number"])

    def trial(self, stage: str, folder: Path) -> Trial | None:
        record = self.cached(folder / "trial.json", record_of)
        if record is None:
            return None
        progress = self.cached(folder / "rows.jsonl", lambda text: progress_of(complete_rows(text)))
        return {
            "id": f"{stage}/{record['trial']}",
            "stage": stage,
            **{key: record[key] for key in ("trial", "number", "state", "failure", "epochs")},
            "settings": {name: plain(value) for name, value in record["settings"].items()},
            "log": (folder / "failure.txt").exists(),
            "folder": folder,
            **(progress or progress_of([])),
        }

    def cached(self, file: Path, parse: Any) -> Any:
        """What `parse` makes of the file's text; None where there is no file."""
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        version = (status.st_mtime_ns, status.st_size)
        if self.parsed.get(file, (None, None))[0] != version:
            text = read(file)
            self.parsed[file] = (version, None if text is None else parse(text))
        return self.parsed[file][1]


def record_of(text: str) -> Trial | None:
    """What a trial.json says; None where it is damaged, which the run itself will say: the page shows the others."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def complete_rows(text: str) -> list[dict[str, Any]]:
    """The rows until the first that is torn: its writer may be in the middle of it."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def progress_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far a training is, what it has reached, and its curves.

    Trials are compared at cycle ends, so what counts is the last of those; before the first, the last epoch.
    """
    measured = [row for row in rows if finite(row["log_loss"]) and finite(row["accuracy"])]
    ends = [row for row in measured if row["cycle_end"]]
    reached = (ends or measured or [{"epoch": 0, "accuracy": None, "log_loss": None}])[-1]
    last = rows[-1] if rows else {"epoch": 0, "learning_rate": None, "clips_per_second": None, "seconds": None}
    return {
        "epoch": last["epoch"],
        "reached": reached["epoch"],
        **{key: shortened(reached[key]) for key in ("accuracy", "log_loss")},
        **{key: shortened(last[key]) for key in ("learning_rate", "clips_per_second", "seconds")},
        "curve": {
            "epoch": [row["epoch"] for row in rows],
            "cycle_end": [bool(row["cycle_end"]) for row in rows],
            **{key: [shortened(row[key]) for row in rows] for key in CURVES},
        },
    }


def plain(value: Any) -> Any:
    """A setting as a table shows it: lists as text, as in a run's trials.parquet."""
    return value if isinstance(value, str | int | float) or value is None else str(value)


def leader(trials: Sequence[Trial], metric: str) -> str | None:
    """Name of the best trial so far, by the search's own rule: of those that got furthest, by their last cycle end."""
    alive = [trial for trial in trials if trial["state"] != "failed" and trial["log_loss"] is not None]
    best = min(alive, key=lambda trial: (-trial["reached"], rank(trial, metric)), default=None)
    return best["trial"] if best else None
