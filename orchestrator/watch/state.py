"""The state of a run as one JSON value, read from its storage: it needs no cluster and no driver."""

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.monitor.progress import is_gone
from orchestrator.monitor.schema import RunStatus, StageReport
from orchestrator.storage.remote import hurried
from orchestrator.storage.runs import STATUS
from orchestrator.storage.store import Store
from orchestrator.training.best import winner
from orchestrator.training.record import FAILURE
from orchestrator.watch.files import Files, read
from orchestrator.watch.search import Importances, parallel
from orchestrator.watch.trials import Reader, Watched
from orchestrator.watch.versions import Answer, Head, Versions

EVERY = 2.0  # seconds between two reads of the storage, however many pages are open


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
        self.latest = Versions()

    def answer(self, since: str = "") -> Answer:
        """The state, not older than EVERY seconds, or what has changed of it since an answer with the tag `since`.

        Raises OSError where the storage cannot be read.
        """
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
            return self.latest.answer(since)

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
        if status == self.status and status.state != "running" and not self.importances.are_due:
            return  # a driver's last word: nothing else has changed either
        self.trials = self.read_trials(status.stages)
        head, views = self.head(status), [trial.view for trial in self.trials]
        searched = [view for view in views if view["stage"] == "search"]
        self.latest.update(head, views, parallel(searched, status.select_by))
        self.status = status

    def read_trials(self, stages: Sequence[StageReport]) -> list[Watched]:
        """The trials of every stage that has any."""
        return [
            trial
            for stage in stages
            for trial in self.reader.trials(
                stage.name, [self.files.fetch(name) for name in stage.folders if self.files.has(name)]
            )
        ]

    def head(self, status: RunStatus) -> Head:
        """What the page shows beside the trials. The trials of a driver that is gone are interrupted."""
        started, updated = datetime.fromisoformat(status.started), datetime.fromisoformat(status.updated)
        is_running, gone = status.state == "running", is_gone(status)
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
            "importances": shares,
            "no_importances": reason,
        }
