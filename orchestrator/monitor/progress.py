"""How far a run is, in one line, from its status.json."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.monitor.schema import RunStatus, StageReport
from orchestrator.monitor.view import duration
from orchestrator.storage.files import parsed, readable
from orchestrator.storage.remote import hurried
from orchestrator.storage.runs import STATUS
from orchestrator.storage.store import Store

SILENCE = 30.0  # seconds without a word after which a running driver is gone
AT_ONCE = 16  # runs that are asked for


def status_of(store: Store, run: str) -> RunStatus | None:
    """The run's status.json; None where there is none. Raises OSError, UserError where it cannot be read."""
    file = store.root / run / STATUS
    content = store.read(file)
    if content is None:
        return None
    with readable(file):
        return RunStatus.of(parsed(content.decode()), file)


def is_gone(status: RunStatus) -> bool:
    """Whether the driver of a running run has given no sign of life for SILENCE seconds."""
    silent = (datetime.now(UTC) - datetime.fromisoformat(status.updated)).total_seconds()
    return status.state == "running" and silent > SILENCE


def in_short(status: RunStatus) -> str:
    """Such as "search 43 %, about 12m05s left: 12 of 24 done, 2 running, best 0.581 / 1.203 (student-07)"."""
    if status.state == "running":
        running = [stage for stage in status.stages if stage.state == "running"]
        text = far(running[0]) if running else "between two stages"
        return f"the driver is gone, at: {text}" if is_gone(status) else text
    return ": ".join(filter(None, (status.state, status.message or status.outcome)))


def far(stage: StageReport) -> str:
    """How far a running stage is, how long it may take yet, and what it does."""
    share = stage.done / stage.total if stage.total else 0.0
    parts = [f"{stage.name} {100 * share:.0f} %"]
    if 0 < share < 1 and stage.seconds:
        parts.append(f"about {duration(stage.seconds * (1 - share) / share)} left")
    return ": ".join(filter(None, (", ".join(parts), stage.detail)))


def shown(places: Mapping[str, tuple[str, str]], seconds: float = 5.0) -> dict[str, str]:
    """How far the runs are, each a storage's address and the run's folder, by name; "-" where that cannot be seen here.

    Asked at once, and waited for `seconds` in all.
    """

    @cache
    def opened(storage: str) -> Store:
        return Store(storage)

    def ask(storage: str, run: str) -> str:
        if "://" not in storage and not Path(storage).is_dir():
            return "-"
        try:
            with hurried():
                status = status_of(opened(storage), run)
                return in_short(status) if status else "-"
        except (OSError, UserError, ValueError, TypeError):  # also of a time without a zone
            return "-"

    pool = ThreadPoolExecutor(AT_ONCE, "status")
    answers = {name: pool.submit(copy_context().run, ask, *place) for name, place in places.items()}
    until = time.monotonic() + seconds
    found = {}
    for name, answer in answers.items():
        try:
            found[name] = answer.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            found[name] = "-"
    pool.shutdown(wait=False, cancel_futures=True)
    return found
