"""The stages of a run: each a function from the config and earlier stages' results to an artifact."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.artifacts import Store, read_json, write_json
from orchestrator.config import Experiment
from orchestrator.data import Split
from orchestrator.view import View

FORMAT = 1  # part of every key: raise it when results of an older version may not be reused


@dataclass(frozen=True)
class Context:
    """What every stage is given."""

    config: Experiment
    store: Store
    view: View


@dataclass(frozen=True)
class Data:
    """The splits in memory, and the keys that stand for their content."""

    key: str
    recordings_key: str  # the same without the extra copies of training clips
    train: Split
    validation: Split
    test: Split
    quarantine: dict[str, str]  # path -> reason
    notes: dict[str, str]
    responses: dict[str, list[float]]  # device -> what recordings were corrected by (features/spectrum.py)

    def for_student(self, copies: bool) -> "Data":
        """What students are trained on: with the extra copies, or without."""
        return self if copies else replace(self, key=self.recordings_key, train=self.train.without_copies())


class Clock:
    """Seconds a stage took, over all its interruptions, kept beside its work in progress."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "seconds.json"
        self.before: float = read_json(self.file) if self.file.exists() else 0.0
        self.started = time.monotonic()

    def save(self) -> float:
        seconds = self.before + time.monotonic() - self.started
        write_json(self.file, seconds)
        return seconds


def record(folder: Path, seconds: float, **about: Any) -> None:
    """What made an artifact, and how long that took."""
    write_json(folder / "stage.json", {"seconds": round(seconds, 2), **about})


def seconds_of(folder: Path) -> float:
    return read_json(folder / "stage.json")["seconds"]
