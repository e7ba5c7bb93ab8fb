"""RUN/status.json: the progress of a run, for `stillhouse watch`, which reads it from the storage."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from orchestrator.errors import Until, UserError
from orchestrator.monitor.schema import RunState, RunStatus, StageReport, StageState
from orchestrator.storage.remote import hurried
from orchestrator.storage.runs import STATUS
from orchestrator.storage.store import Store
from orchestrator.training.rows import Metric

EVERY, EVERY_REMOTE = 2.0, 4.0  # seconds between two versions of the file; in a distant storage
SIGN_OF_LIFE = 10.0  # seconds after which it is written though nothing has changed


@dataclass(frozen=True)
class About:
    """What is known of a run from the start."""

    name: str  # the experiment's
    run: str  # name of the run's folder
    select_by: Metric
    generated: bool  # whether the recordings are made by Stillhouse


@dataclass
class StageStatus:
    """One stage. The driver's threads change it, the writer reads it."""

    name: str
    state: StageState = "waiting"
    done: float = 0
    total: float = 0
    detail: str = ""
    folders: list[Path] = field(default_factory=list)  # its work, and what has come of it
    started: float | None = None
    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[Self]:
        """The stage is running during the block; afterwards it is finished, failed or interrupted."""
        self.state, self.started = "running", time.monotonic()
        try:
            yield self
        except BaseException as error:
            self.state = "failed" if isinstance(error, Exception) else "interrupted"
            raise
        else:
            self.state, self.done = "finished", self.total
        finally:
            self.seconds, self.started = self.elapsed, None

    @property
    def elapsed(self) -> float:
        return self.seconds if self.started is None else time.monotonic() - self.started


class Status:
    """Updates the file during the block, and writes at its end how the run ended."""

    def __init__(self, store: Store, folder: Path, stages: Sequence[str], about: About) -> None:
        self.store, self.file, self.about = store, folder / STATUS, about
        self.stages = {name: StageStatus(name) for name in stages}
        self.state: RunState = "running"
        self.message: str | None = None
        self.best: str | None = None  # name of the search's best trial
        self.outcome: str | None = None  # what distillation changes, in one line
        self.started = now()
        self.ended = threading.Event()
        self.writer = threading.Thread(target=self.write_again, daemon=True)
        self.written: RunStatus | None = None
        self.written_at = 0.0

    def of(self, stage: str) -> StageStatus:
        """The stage of that name."""
        return self.stages[stage]

    @property
    def has_begun(self) -> bool:
        """Whether a stage has begun, or was finished before; a corpus that was made is not the run's own."""
        return any(stage.state != "waiting" for name, stage in self.stages.items() if name != "corpus")

    def __enter__(self) -> Self:
        self.recall()
        self.write()
        self.writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.ended.set()
        self.writer.join()
        if error is None:
            self.state = "finished"
        elif isinstance(error, KeyboardInterrupt | SystemExit | Until):
            self.state = "interrupted"
        else:
            self.state, self.message = "failed", " ".join(str(error).split()) or type(error).__name__
        with hurried(), suppress(OSError):  # if this is all that fails, the run is finished all the same
            self.write()

    def recall(self) -> None:
        """Where an earlier start of the run has worked stays known until this one comes that far."""
        with suppress(OSError, UserError):  # at the first start there is none; a damaged one is written anew
            for stage in RunStatus.read(self.file).stages:
                if stage.name in self.stages:
                    self.of(stage.name).folders = [self.store.root / name for name in stage.folders]

    def write_again(self) -> None:
        """Write the file again whenever it has changed, and every SIGN_OF_LIFE seconds, until the run has ended."""
        while not self.ended.wait(EVERY_REMOTE if self.store.is_remote else EVERY):
            try:
                if self.has_changed() or time.monotonic() - self.written_at > SIGN_OF_LIFE:
                    with hurried():  # there is a next time, and a stop waits for this thread
                        self.write()
            except OSError:  # the stage itself will report it
                continue

    def has_changed(self) -> bool:
        """Whether what is shown differs from what was written last."""
        return self.written is None or self.report(self.written.updated) != self.written

    def report(self, updated: str) -> RunStatus:
        """What the file holds if it is written at `updated`; seconds of running stages follow from that."""
        return RunStatus(
            schema=RunStatus.newest,
            name=self.about.name,
            run=self.about.run,
            select_by=self.about.select_by,
            generated=self.about.generated,
            host=socket.gethostname(),
            state=self.state,
            started=self.started,
            message=self.message,
            best=self.best,
            outcome=self.outcome,
            stages=[
                StageReport(
                    name=stage.name,
                    state=stage.state,
                    seconds=round(stage.elapsed),
                    done=stage.done,
                    total=stage.total,
                    detail=stage.detail,
                    folders=[self.store.name(folder) for folder in stage.folders],
                )
                for stage in self.stages.values()
            ],
            updated=updated,
        )

    def write(self) -> None:
        """Write status.json as it is now, and push it."""
        self.written, self.written_at = self.report(now()), time.monotonic()
        self.written.write(self.file)
        self.store.push(self.file)


def now() -> str:
    """UTC, to the second, as status.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
