"""A run's folder: its files' names, and where it is by the address that a person gives."""

from pathlib import Path
from typing import NotRequired, TypedDict

from orchestrator.errors import UserError
from orchestrator.storage.remote import hurried
from orchestrator.storage.store import RESULTS, Store
from orchestrator.storage.typed import read_typed

STATUS = "status.json"
CONFIG, VERSIONS = "config.yaml", "versions.json"
TRIALS_TABLE = "trials.parquet"  # a row a trial of the search; of the search's artifact, too
METRICS = "metrics.jsonl"  # a line an epoch of every training
QUARANTINE, LOG, TENSORBOARD = "quarantine.csv", "log.txt", "tensorboard"
MODELS = "models"  # the exported files, each with what `predict` needs beside it
REPORT, MODEL_CARD = "report/index.html", "model_card.md"


class Member(TypedDict):
    """One of the runs of a table of several."""

    run: str


class Several(TypedDict):
    """Of results.json: the runs, where it is a table of several."""

    systems: NotRequired[dict[str, Member] | None]


def locate(address: str, needed: str) -> tuple[Store, Path]:
    """The storage and the run's folder in it: `address` is a path, or s3://bucket/prefix/NAME-KEY.

    Raises UserError where that has no file `needed`.
    """
    if "://" in address:
        place, question, query = address.partition("?")
        parent, _, name = place.rstrip("/").rpartition("/")
        store = Store(f"{parent}{question}{query}")
    else:
        store, name = Store(Path(address).resolve().parent), Path(address).resolve().name
    folder = store.root / name
    with hurried():  # a person waits
        is_there = store.has(folder / needed)
        if store.has(folder / RESULTS) and (needed == RESULTS or not is_there):
            store.pull(folder)  # not of a run under way: the mirror may be its driver's, whose files are newer
            if systems := read_typed(Several, folder / RESULTS).get("systems"):
                names = ", ".join(sorted({system["run"] for system in systems.values()}))
                raise UserError(f"{address} is a table of several runs; give one of them, in the same storage: {names}")
        if not is_there:
            what = "finished run" if needed == RESULTS else "run"
            raise UserError(
                f"{address} is not the folder of a {what}: it has no {needed}; give the folder that `stillhouse run` "
                f"names"
            )
    return store, folder
