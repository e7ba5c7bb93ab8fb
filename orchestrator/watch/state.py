"""The state of a run as one JSON value, read from its storage: it needs no cluster and no driver."""

import json
import threading
import time
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import UserError
from orchestrator.storage.remote import hurried
from orchestrator.storage.store import Store
from orchestrator.watch.files import Files, read
from orchestrator.watch.search import Importances, parallel
from orchestrator.watch.trials import Reader, Trial, leader

EVERY = 2.0  # seconds between two looks at the storage, however many pages ask
SILENCE = 30.0  # seconds without a word after which a running driver is gone

NOT_SENT = ("folder",)  # a path of this machine


class Answer(NamedTuple):
    """The state as a page gets it; `tag` is another one where it has changed."""

    tag: str
    body: bytes


class Watcher:
    """Reads a run's state whenever it is asked for, at most every EVERY seconds."""

    def __init__(self, store: Store, run: Path) -> None:
        self.files, self.run = Files(store), store.name(run)
        self.reader, self.importances = Reader(), Importances()
        self.lock = threading.Lock()
        self.read_at = float("-inf")
        self.trouble: OSError | None = None  # of the last reading
        self.status: dict[str, Any] | None = None
        self.trials: list[Trial] = []
        self.latest = Answer("", b"")

    def answer(self) -> Answer:
        """The state, not older than EVERY seconds. Raises OSError where the storage cannot be read."""
        with self.lock:
            if time.monotonic() - self.read_at >= EVERY:
                self.trouble = None
                try:
                    with hurried():  # a reader waits, and asks again
                        self.refresh()
                except (OSError, ValueError, UserError) as error:
                    self.trouble = OSError(str(error))
                self.read_at = time.monotonic()
            if self.trouble:
                raise self.trouble
            return self.latest

    def log(self, stage: str, trial: str) -> str | None:
        """The whole error text of a failed training; None where there is no such training or no such text."""
        self.answer()
        folders = [known["folder"] for known in self.trials if (known["stage"], known["trial"]) == (stage, trial)]
        return read(folders[0] / "failure.txt") if folders else None

    def refresh(self) -> None:
        folder = self.files.fetch(self.run)
        status = json.loads((folder / "status.json").read_text())
        if status == self.status and status["state"] != "running":
            return  # a driver's last word: nothing else has changed either
        self.trials = self.read_trials(status["stages"])
        body = json.dumps(self.state(status), allow_nan=False, separators=(",", ":")).encode()
        self.latest, self.status = Answer(blake2b(body, digest_size=12).hexdigest(), body), status

    def read_trials(self, stages: list[dict[str, Any]]) -> list[Trial]:
        return [
            trial
            for stage in stages
            for trial in self.reader.trials(stage["name"], [self.files.fetch(name) for name in stage["folders"]])
        ]

    def state(self, status: dict[str, Any]) -> dict[str, Any]:
        started, updated = (datetime.fromisoformat(status[key]) for key in ("started", "updated"))
        gone = status["state"] == "running" and (datetime.now(UTC) - updated).total_seconds() > SILENCE
        if gone or status["state"] != "running":
            for trial in self.trials:
                trial["state"] = "interrupted" if trial["state"] == "running" else trial["state"]
        searched, metric = [trial for trial in self.trials if trial["stage"] == "search"], status["select_by"]
        shares, reason = self.importances.of(searched, metric, status["state"] == "running")
        shown = ("name", "run", "state", "started", "updated", "message", "select_by", "generated")
        return {
            **{key: status[key] for key in shown},
            "gone": gone,
            "seconds": (updated - started).total_seconds(),
            "best": status["best"] or leader(searched, metric),
            "best_is_final": status["best"] is not None,
            "stages": [{key: value for key, value in stage.items() if key != "folders"} for stage in status["stages"]],
            "trials": [{key: value for key, value in trial.items() if key not in NOT_SENT} for trial in self.trials],
            "parallel": parallel(searched, metric),
            "importances": shares,
            "no_importances": reason,
        }
