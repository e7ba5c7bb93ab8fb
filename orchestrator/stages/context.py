"""The stages of a run: each a function from the config and earlier stages' results to an artifact."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.code import code_of
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.monitor.view import View
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.store import STAGE, Store
from orchestrator.training.data import Split
from orchestrator.versions import numbers, versions


@dataclass(frozen=True)
class Context:
    """What every stage is given."""

    config: Experiment
    store: Store
    view: View
    run: str  # name of the run's folder


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
    cut: str = ""  # name of this cut of the recordings into training and validation; empty: the run's own

    def for_student(self, copies: bool) -> "Data":
        """What students are trained on: with the extra copies, or without."""
        return self if copies else replace(self, key=self.recordings_key, train=self.train.without_copies())

    def without(self, locations: Collection[str], cut: str) -> "Data":
        """Another cut of these: the training clips that were not recorded at `locations`."""
        kept = np.array([location not in locations for location in self.train.locations])
        key, recordings_key = (key_of(one, sorted(locations)) for one in (self.key, self.recordings_key))
        return replace(self, key=key, recordings_key=recordings_key, train=self.train.take(kept), cut=self.cut + cut)


def record(folder: Path, seconds: float, **about: Any) -> None:
    """Write stage.json: what made an artifact, and how long that took. It is the artifact's last file."""
    write_json(folder / STAGE, {"seconds": round(seconds, 2), **about, "versions": versions()})


def basis(*roots: str | Callable[..., object]) -> list[object]:
    """What every key begins with: the code that `roots` use, and the versions of what computes."""
    return [code_of(*roots), numbers()]


def announce_restart(context: Context, stage: str, key: str) -> None:
    """Print a line where an earlier start of this run left work in progress that this one cannot resume.

    The settings are the same, or the run's folder would be another.
    """
    for folder in context.view.of(stage).folders:
        if folder.parent == context.store.root / "work" / stage and folder.name != key and folder.exists():
            context.view.line(f"  {stage}: code, libraries or recordings have changed; work in progress begins anew")


def published(store: Store, kind: str, key: str) -> Path:
    """The folder of an artifact that has just been published."""
    folder = store.finished(kind, key)
    assert folder is not None, f"{kind} {key} was not published"
    return folder


def seconds_of(folder: Path) -> float:
    """How long an artifact took to make."""
    return read_json(folder / STAGE)["seconds"]
