"""RUN/status.json: where a run is. docs/results.md is made of these models (report/reference.py)."""

from typing import ClassVar, Literal

from pydantic import Field

from orchestrator.config.reading import Strict
from orchestrator.storage.record import Record
from orchestrator.training.rows import Metric

RunState = Literal["running", "finished", "failed", "interrupted"]
StageState = Literal["waiting", "running", "finished", "reused", "interrupted", "failed"]
Scalar = int | float


class StageReport(Strict):
    """A stage of the run."""

    name: str = Field(description="corpus, features, teachers, labels, search or final")
    state: StageState = Field(description="waiting, running, finished, reused, interrupted or failed")
    seconds: int = Field(description="how long it has run in this start of the run")
    done: Scalar = Field(description="how far it is, of `total`")
    total: Scalar = Field(description="in units of the stage's own; 0 before it is known")
    detail: str = Field(description="what has come of it, in words")
    folders: list[str] = Field(description="relative to the storage: the stage's work, or what has come of it")


class RunStatus(Record):
    """Written by the driver while a run lives, and once more at its end; what `stillhouse watch` reads."""

    oldest: ClassVar[int] = 1
    newest: ClassVar[int] = 2

    name: str = Field(description="the experiment's name")
    run: str = Field(description="the run folder's name")
    select_by: Metric = Field(description="what trials are judged by")
    generated: bool = Field(description="true: the recordings are made by Stillhouse")
    host: str = Field(description="the driver's machine")
    state: RunState = Field(
        description='"running" with `updated` older than 30 s is a driver that is gone; else how the run ended'
    )
    started: str = Field(description="UTC")
    message: str | None = Field(description="the error line of a failed run")
    best: str | None = Field(description="name of the search's best trial, once the search is finished")
    outcome: str | None = Field(
        None,
        description="of a finished run: what distillation changes, with its interval; null where nothing is compared",
    )
    stages: list[StageReport] = Field(description="in their order")
    updated: str = Field(description="when the file was written, UTC")
