"""The record of a training: trial.json beside its rows, and the names of all its files. Without torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from click import unstyle

from orchestrator.storage.files import write_json
from orchestrator.storage.store import Store
from orchestrator.storage.typed import adapter, read_rows, read_typed
from orchestrator.training.rows import Row, is_row

TRIALS = "trials"  # the folder of a stage's work, and of its artifact, that has a folder for every training
TRIAL, ROWS, FAILURE = "trial.json", "rows.jsonl", "failure.txt"
LATEST, SCORES = "latest.safetensors", "scores.safetensors"

State = Literal["running", "finished", "stopped", "failed"]
RUNNING: State = "running"
FINISHED: State = "finished"
STOPPED: State = "stopped"
FAILED: State = "failed"

type Setting = bool | int | float | str | list[Setting] | tuple[Setting, ...] | None
type Settings = dict[str, Setting]
"""What a trial changes of the student: dotted name of a field -> value."""


FIRST_CUTS = ("", "fold1")
"""What the first round of a search is trained on: the run's own cut of the recordings, or the first of its folds."""


def of_cut(artifact: str, cut: str) -> str:
    """A run's name for an artifact that is made of a cut of the recordings."""
    return f"{cut}-{artifact}" if cut else artifact


@dataclass(frozen=True)
class Training:
    """The contents of trial.json: which training it is, and how it ended.

    The process that trains writes it first, the driver again when the training has ended.
    """

    stage: Annotated[str, "teachers, search or final"]
    trial: Annotated[str, "its name"]
    number: Annotated[int, "its place in the stage, from 1"]
    epochs: Annotated[int, "epochs planned"]
    settings: Annotated[Settings, "what it changes of the experiment: setting -> value"] = field(default_factory=dict)
    state: Annotated[State, "running, finished, stopped (before the last epoch) or failed"] = RUNNING
    failure: Annotated[str | None, "why it failed, in one line; failure.txt has the whole text"] = None
    seed: Annotated[int, "which initial weights and draws: 0 are the search's, others those of finalists"] = 0
    cut: Annotated[str, "which cut of the recordings into training and validation; empty: the run's own"] = ""

    @property
    def is_first(self) -> bool:
        """Of the search: whether it belongs to the first round, the trials that are proposed and may be stopped."""
        return not self.seed and self.cut in FIRST_CUTS

    @classmethod
    def read(cls, folder: Path) -> "Training":
        """Raises Unreadable where the record is damaged."""
        return read_typed(cls, folder / TRIAL)

    @classmethod
    def of(cls, value: object) -> "Training":
        """From JSON's values. Raises ValueError for others than a record has."""
        return adapter(cls).validate_python(value)

    def write(self, store: Store, work: Path) -> None:
        """Write trial.json into the training's folder, and push it."""
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
    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """Its training's, and its folder's."""
        return self.training.trial

    @property
    def epochs(self) -> int:
        """The last one that it has reached; 0 before the first."""
        return self.rows[-1]["epoch"] if self.rows else 0


def rows_of(folder: Path) -> list[Row]:
    """The rows of a training that has ended."""
    return read_rows(is_row, folder / ROWS)
