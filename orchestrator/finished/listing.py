"""All runs of a storage in one table: how they ended, or how far they are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import partial

from orchestrator.errors import UserError
from orchestrator.monitor.progress import AT_ONCE, in_short, is_gone, status_of
from orchestrator.monitor.schema import RunStatus
from orchestrator.monitor.view import duration
from orchestrator.report.coverage import interval
from orchestrator.report.formats import span
from orchestrator.report.schema import TFLITE, Results
from orchestrator.storage.files import parsed, readable
from orchestrator.storage.remote import hurried
from orchestrator.storage.runs import RESULTS
from orchestrator.storage.store import Store

COLUMNS = ("RUN", "STATE", "STARTED", "TIME", "ACCURACY (95 %)", "LOG LOSS", "BYTES", "WHAT")


def runs_of(store: Store) -> list[tuple[str, ...]]:
    """A row a run, the newest first, in COLUMNS. Raises OSError where the storage cannot be read."""
    with hurried(), ThreadPoolExecutor(AT_ONCE, "runs") as pool:
        names = store.folders()
        found = pool.map(lambda call: call(), [partial(copy_context().run, row_of, store, name) for name in names])
        return [row for _, row in sorted((one for one in found if one), reverse=True)]


def row_of(store: Store, name: str) -> tuple[str, tuple[str, ...]] | None:
    """When it was started, and its row; None where the folder is not a run's."""
    try:
        status = status_of(store, name)
        if status is None:
            return None
        state = "gone" if is_gone(status) else status.state
        begun = datetime.fromisoformat(status.started)
        taken = duration((datetime.fromisoformat(status.updated) - begun).total_seconds())
        facts = tuple(measured(store, name)) if state == "finished" else ("-", "-", "-")
        about = (name, state, f"{begun:%Y-%m-%d %H:%M}", taken)
        return status.started, (*about, *facts, "" if state == "finished" else what(status))
    except (UserError, ValueError, TypeError, KeyError) as error:  # a time without a zone, too
        return "", (name, "damaged", "-", "-", "-", "-", "-", str(error).partition(";")[0])


def what(status: RunStatus) -> str:
    """What a run does that is not finished, or what it failed with; an interrupted one has nothing to add."""
    return "" if status.state == "interrupted" else in_short(status).removeprefix("failed: ")


def measured(store: Store, name: str) -> Iterator[str]:
    """Accuracy with its interval, log loss and size on disk of the file that the run is about."""
    file = store.root / name / RESULTS
    content = store.read(file)
    if content is None:
        yield from ("-", "-", "-")
        return
    with readable(file):
        value = parsed(content.decode())
    if isinstance(value, dict) and value.get("systems"):  # a table of several runs, which have rows of their own
        yield from ("-", "-", "-")
        return
    results = Results.of(value, file)
    product = results.models.student[TFLITE] if results.models else None
    yield f"{product.accuracy:.3f} ({span(interval(product.confusion))})" if product else "-"
    yield f"{product.log_loss:.3f}" if product else "-"
    yield f"{results.complexity.file_bytes[TFLITE]:,}"
