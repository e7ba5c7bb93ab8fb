"""The state of a run as one JSON value, read from its storage: it needs no cluster and no driver."""

import json
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, TypedDict

from orchestrator.errors import UserError
from orchestrator.monitor.schema import RunState, RunStatus, StageReport
from orchestrator.storage.remote import hurried
from orchestrator.storage.runs import STATUS
from orchestrator.storage.store import Store
from orchestrator.training.best import winner
from orchestrator.training.record import FAILURE
from orchestrator.training.rows import Metric
from orchestrator.watch.files import Files, read
from orchestrator.watch.search import Importances, Parallel, parallel
from orchestrator.watch.trials import Reader, TrialView, Watched

EVERY = 2.0  # seconds between two reads of the storage, however many pages are open
SILENCE = 30.0  # seconds without a word after which a running driver is gone


class State(TypedDict):
    """state.json, as the page gets it. Paths of this machine are not in it."""

    name: str
    run: str
    state: RunState
    started: str
    updated: str
    message: str | None
    select_by: Metric
    generated: bool
    gone: bool  # the driver has given no sign of life
    seconds: float
    best: str | None  # of the search's trials
    best_is_final: bool
    outcome: str | None  # what distillation changes
    stages: list[dict[str, object]]  # StageReport without its folders
    trials: list[TrialView]
    parallel: Parallel | None
    importances: list[tuple[str, float]]
    no_importances: str  # the reason


class Answer(NamedTuple):
    """The state as a page gets it; `tag` is another one where it has changed."""

    tag: str
    body: bytes


@lru_cache(maxsize=2)
def text_of(file: Path, version: int) -> bytes | None:  # noqa: ARG001 - the cache looks at it
    """A file's text, in UTF-8. `version` differs where the file has changed."""
    text = read(file)
    return None if text is None else text.encode()


class Watcher:
    """Reads a run's state on request, at most once every EVERY seconds."""

    def __init__(self, store: Store, run: Path) -> None:
        self.files, self.run = Files(store), store.name(run)
        self.reader, self.importances = Reader(), Importances()
        self.lock = threading.Lock()
        self.read_at = float("-inf")
        self.trouble: OSError | None = None  # of the last reading
        self.status: RunStatus | None = None
        self.trials: list[Watched] = []
        self.latest = Answer("", b"")

    def answer(self) -> Answer:
        """The state, not older than EVERY seconds. Raises OSError where the storage cannot be read."""
        with self.lock:
            if time.monotonic() - self.read_at >= EVERY:
                self.trouble = None
                try:
                    with hurried():  # a reader waits, and repeats its request
                        self.refresh()
                except (OSError, UserError) as error:
                    self.trouble = OSError(str(error))
                except ValueError as error:  # a time that is none, or a number that JSON has not
                    self.trouble = OSError(f"{self.run}/{STATUS} is damaged ({error})")
                self.read_at = time.monotonic()
            if self.trouble:
                raise self.trouble
            return self.latest

    def log(self, stage: str, trial: str) -> bytes | None:
        """The whole error text of a failed training, in UTF-8; None where there is no such training or no such text."""
        self.answer()
        for known in self.trials:
            if (known.view["stage"], known.view["trial"]) == (stage, trial):
                file = known.folder / FAILURE
                return text_of(file, file.stat().st_mtime_ns) if file.exists() else None
        return None

    def refresh(self) -> None:
        """Read status and trials from the storage and make the next answer."""
        status = RunStatus.read(self.files.fetch(self.run) / STATUS)
        if status == self.status and status.state != "running":
            return  # a driver's last word: nothing else has changed either
        self.trials = self.read_trials(status.stages)
        body = json.dumps(self.state(status), allow_nan=False, separators=(",", ":")).encode()
        self.latest, self.status = Answer(blake2b(body, digest_size=12).hexdigest(), body), status

    def read_trials(self, stages: Sequence[StageReport]) -> list[Watched]:
        """The trials of every stage that has any."""
        return [
            trial
            for stage in stages
            for trial in self.reader.trials(
                stage.name, [self.files.fetch(name) for name in stage.folders if self.files.has(name)]
            )
        ]

    def state(self, status: RunStatus) -> State:
        """What the page shows, from status.json and the trials."""
        started, updated = datetime.fromisoformat(status.started), datetime.fromisoformat(status.updated)
        is_running = status.state == "running"
        gone = is_running and (datetime.now(UTC) - updated).total_seconds() > SILENCE
        views = [trial.view for trial in self.trials]
        if gone or not is_running:
            for view in views:
                view["state"] = "interrupted" if view["state"] == "running" else view["state"]
        searched = [view for view in views if view["stage"] == "search"]
        leader = winner((trial.standing for trial in self.trials if trial.view["stage"] == "search"), status.select_by)
        shares, reason = self.importances.of(searched, status.select_by, is_running)
        return {
            "name": status.name,
            "run": status.run,
            "state": status.state,
            "started": status.started,
            "updated": status.updated,
            "message": status.message,
            "select_by": status.select_by,
            "generated": status.generated,
            "gone": gone,
            "seconds": (updated - started).total_seconds(),
            "best": status.best or (leader.trial if leader else None),
            "best_is_final": status.best is not None,
            "outcome": status.outcome,
            "stages": [stage.model_dump(mode="json", exclude={"folders"}) for stage in status.stages],
            "trials": views,
            "parallel": parallel(searched, status.select_by),
            "importances": shares,
            "no_importances": reason,
        }
