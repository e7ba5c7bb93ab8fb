"""Removing what no run needs from a storage, and this machine's copies of a remote one."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from rich.filesize import decimal

from orchestrator.storage.lease import Holder, living
from orchestrator.storage.runs import STATUS
from orchestrator.storage.scratch import copies_of, size_of
from orchestrator.storage.store import LEASE, RESULTS, Store
from orchestrator.storage.typed import read_typed
from orchestrator.storage.work import CLEAN, cleaning

TEMPORARY = ("probe-", "preflight-")  # at the top of a storage: of runs that were killed
FEATURES = "features"
KINDS = {"teachers": "teacher"}  # stage -> kind of its artifacts, where they are not called alike


class Made(TypedDict):
    """Of results.json: the artifacts that a run was made of."""

    artifacts: NotRequired[dict[str, str]]


class Shards(TypedDict):
    """Of a feature set's manifest."""

    shards: list[str]


class Stage(TypedDict):
    """Of status.json."""

    name: str
    state: str
    folders: list[str]


class Begun(TypedDict):
    """Of status.json."""

    stages: list[Stage]


@dataclass(frozen=True)
class Found:
    """What can go, name -> bytes; and who works there, by the folder that each works in."""

    unneeded: dict[str, int]
    living: dict[str, Holder]


def look(store: Store, unfinished: bool = False) -> Found:
    """What no results.json names, and neither a running nor an interrupted run may need.

    `unfinished`: and what the latter have done, unless they are alive.
    """
    sizes = store.sizes()
    leases = [
        store.root / name for name in sizes if name.endswith(f"/{LEASE}") and not name.startswith(f"work/{CLEAN}/")
    ]
    alive = {store.name(file.parent): holder for file, holder in living(store, leases).items()}
    used = needed(store, sizes) | needed_by_living(store, sizes, alive)
    used |= set() if unfinished else begun(store, sizes)
    found: Counter[str] = Counter()
    for name, size in sizes.items():
        place = entry(name)
        if place is not None and place not in used:
            found[place] += size
    return Found(dict(sorted(found.items())), alive)


def entry(name: str) -> str | None:
    """What a file is removed with: its folder of work or artifact, its shard; None for what is always kept."""
    kind, *rest = name.split("/")
    if name.endswith(".tmp") and name.rpartition("/")[2].startswith("."):
        return name
    if not rest and name.startswith(TEMPORARY):
        return name
    if kind in ("work", "artifacts") and len(rest) > 2:
        return "/".join((kind, *rest[:2]))
    return name if kind == "shards" and name.endswith(".parquet") else None


def needed(store: Store, sizes: dict[str, int]) -> set[str]:
    """Artifacts of finished runs, and the shards that these are made of."""
    runs = folders_with(RESULTS, sizes)
    artifacts = [read(Made, store, f"{run}/{RESULTS}").get("artifacts", {}) for run in runs]
    return with_shards(store, sizes, {name for one in artifacts for name in one.values()})


def with_shards(store: Store, sizes: dict[str, int], artifacts: set[str]) -> set[str]:
    """The artifacts, and the shards that these are made of."""
    manifests = [name for name in sizes if entry(name) in artifacts and name.rpartition("/")[2].startswith("manifest")]
    return artifacts | {f"shards/{shard}" for name in manifests for shard in read(Shards, store, name)["shards"]}


def needed_by_living(store: Store, sizes: dict[str, int], alive: Iterable[str]) -> set[str]:
    """Work and temporary files of runs that are alive, and all that they have used or may still find and use.

    A stage that is not finished may use any artifact of its kind, go on with any work, and before its features are
    finished, use any shard.
    """
    used = set(alive)
    for run in used & folders_with(LEASE, sizes):
        stages = read(Begun, store, f"{run}/{STATUS}")["stages"] if f"{run}/{STATUS}" in sizes else []
        used |= with_shards(store, sizes, {folder for stage in stages for folder in stage["folders"]})
        done = {stage["name"] for stage in stages if stage["state"] in ("finished", "reused")}
        done |= {KINDS[name] for name in done & KINDS.keys()}
        for name in sizes:
            kind, _, rest = name.partition("/")
            stage = FEATURES if kind == "shards" else rest.partition("/")[0]
            if kind in ("shards", "artifacts", "work") and stage not in done:
                used.add(entry(name) or name)
    if used:  # what is being written at this moment
        used |= {name for name in sizes if entry(name) == name and not name.startswith("shards/")}
    return used


def begun(store: Store, sizes: dict[str, int]) -> set[str]:
    """Work and artifacts of runs that were not finished; and all shards, for they may not have a manifest yet."""
    runs = folders_with(STATUS, sizes) - folders_with(RESULTS, sizes)
    stages = [stage for run in runs for stage in read(Begun, store, f"{run}/{STATUS}")["stages"]]
    shards = {name for name in sizes if name.startswith("shards/")} if runs else set()
    return shards | {folder for stage in stages for folder in stage["folders"]}


def folders_with(file: str, sizes: dict[str, int]) -> set[str]:
    """Folders at the top of the storage that have a file of that name: runs."""
    return {name.partition("/")[0] for name in sizes if name.count("/") == 1 and name.endswith(f"/{file}")}


def read[T](kind: type[T], store: Store, name: str) -> T:
    """Raises Unreadable where the file is no `kind`."""
    store.pull(store.root / name)
    return read_typed(kind, store.root / name)


def clean(store: Store, confirm: Callable[[str], bool], echo: Callable[[str], None], unfinished: bool = False) -> None:
    """Show what no run needs, and remove it if that is confirmed; then this machine's copies of a remote storage."""
    found = look(store, unfinished)
    for place, holder in found.living.items():
        echo(f"{place} is in use by {holder}: everything that it may need stays")
    for name, size in found.unneeded.items():
        echo(f"{decimal(size):>10}  {name}")
    if not found.unneeded:
        echo(f"{store.uri}: nothing to remove")
    elif confirm(f"remove {len(found.unneeded)} entries, {decimal(sum(found.unneeded.values()))}, that no run needs?"):
        with cleaning(store):  # a run may have begun while the question stood; none begins from here on
            gone = found.unneeded.keys() & look(store, unfinished).unneeded.keys()
            for name in sorted(gone):
                store.remove(store.root / name)
        echo(f"removed {decimal(sum(found.unneeded[name] for name in gone))}")
    copies = copies_of(store)
    if copies and confirm(
        f"remove this machine's copies, {decimal(sum(map(size_of, copies)))}, which are fetched anew?"
    ):
        with cleaning(store):
            if look(store, unfinished).living:
                echo("this machine's copies stay: a run that is alive may have newer files there")
                return
            for folder in copies:
                shutil.rmtree(folder)
