"""A run's folder by the address that a person gives: a path, or s3://bucket/prefix/NAME-KEY."""

from pathlib import Path

from orchestrator.artifacts import Store
from orchestrator.errors import UserError
from orchestrator.remote import hurried

RESULTS, STATUS = "results.json", "status.json"


def locate(address: str, needed: str) -> tuple[Store, Path]:
    """The storage and the run's folder in it. Raises UserError where that has no file `needed`."""
    if "://" in address:
        place, question, query = address.partition("?")
        parent, _, name = place.rstrip("/").rpartition("/")
        store = Store(f"{parent}{question}{query}")
    else:
        store, name = Store(Path(address).resolve().parent), Path(address).resolve().name
    folder = store.root / name
    with hurried():  # a person waits
        if not store.has(folder / needed):
            what = "finished run" if needed == RESULTS else "run"
            raise UserError(
                f"{address} is not the folder of a {what}: it has no {needed}; give the folder that `stillhouse run` "
                f"names"
            )
        if needed == RESULTS:  # else the mirror may be that of the run's own driver, whose files are newer
            store.pull(folder)
    return store, folder
