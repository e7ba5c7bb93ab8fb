"""trials.parquet: a row a trial of the search, as scripts and the report read it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq

from features.store import parquet
from orchestrator.storage.files import readable
from orchestrator.storage.typed import typed
from orchestrator.training.best import standing
from orchestrator.training.record import FIRST_CUTS, Setting, State, Trial

type Cell = bool | int | float | str | None


@dataclass(frozen=True)
class TrialRow:
    """A trial: how far it came, its last judged cycle end, its settings."""

    trial: Annotated[str, "its name"]
    state: Annotated[State, "finished, stopped or failed"]
    epochs: Annotated[int, "epochs trained"]
    accuracy: Annotated[float, "on validation, at its last cycle end; NaN where it reached none"]
    log_loss: Annotated[float, "likewise"]
    seconds: Annotated[float, "of training"]
    seed: Annotated[int, "0 in the first round; of a finalist, the number of its initial weights and draws"]
    cut: Annotated[str, "which fold it was judged on; empty: the validation split"]
    wins: Annotated[
        float | None, "how often it would be the best of the first round with other locations; null where not compared"
    ]
    failure: Annotated[str, "why it failed, in one line; else empty"]
    settings: Annotated[dict[str, Cell], "a column for each setting that the search tried; lists are written as text"]

    @property
    def is_first(self) -> bool:
        """Whether it belongs to the first round."""
        return not self.seed and self.cut in FIRST_CUTS

    @classmethod
    def of(cls, trial: Trial, wins: float | None = None) -> "TrialRow":
        """The row of a trial that has ended, with its last judged cycle end."""
        last = standing(trial.name, trial.rows)
        return cls(
            trial=trial.name,
            state=trial.training.state,
            epochs=trial.epochs,
            accuracy=last.accuracy if last else math.nan,
            log_loss=last.log_loss if last else math.nan,
            seconds=trial.rows[-1]["seconds"] if trial.rows else 0.0,
            seed=trial.training.seed,
            cut=trial.training.cut,
            wins=wins,
            failure=trial.training.failure or "",
            settings={name: as_column(value) for name, value in trial.training.settings.items()},
        )


OWN = [field.name for field in fields(TrialRow) if field.name != "settings"]
"""The columns that are not settings."""


EARLIER = {"seed": 0, "cut": "", "wins": None}
"""The columns that tables of earlier versions lack."""


def as_column(value: Setting) -> Cell:
    """A setting as a column holds it: lists as text."""
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def write_trials(file: Path, trials: Sequence[TrialRow]) -> None:
    """Write trials.parquet, a row a training."""
    lines = [{**{name: getattr(trial, name) for name in OWN}, **trial.settings} for trial in trials]
    pq.write_table(pa.Table.from_pylist(lines), file)


def read_trials(file: Path) -> list[TrialRow]:
    """No rows where there is no file: the run had no search. Raises Unreadable where it is damaged."""
    if not file.exists():
        return []
    with readable(file, KeyError):
        lines = [EARLIER | line for line in parquet(file).to_pylist()]
        rows = [
            {name: line[name] for name in OWN}
            | {"settings": {name: value for name, value in line.items() if name not in OWN}}
            for line in lines
        ]
    return typed(list[TrialRow], rows, file)
