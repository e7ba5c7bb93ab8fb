"""Removing what no run needs from a storage, and this machine's copies of a remote one."""

import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.filesize import decimal

from orchestrator.storage.files import read_json
from orchestrator.storage.lease import LEASE, require_free
from orchestrator.storage.runs import STATUS
from orchestrator.storage.scratch import copies_of, size_of
from orchestrator.storage.store import RESULTS, Store

TEMPORARY = ("probe-", "preflight-")  # at the top of a storage: of runs that were killed


def unneeded(store: Store, unfinished: bool = False) -> dict[str, int]:
    """Name -> bytes: what no run's results.json names, and no run that is to be gone on with; temporary files.

    `unfinished`: and what the latter have done. Raises UserError where a run that is alive works there.
    """
    sizes = store.sizes()
    for name in sizes:
        if name.endswith(f"/{LEASE}"):
            file = store.root / name
            require_free(store, file, file.parent.parent.name if name.startswith("work/") else file.parent.name)
    used = needed(store, sizes) | (set() if unfinished else begun(store, sizes))
    found: Counter[str] = Counter()
    for name, size in sizes.items():
        place = entry(name)
        if place is not None and place not in used:
            found[place] += size
    return dict(sorted(found.items()))


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
    artifacts = {name for run in runs for name in read(store, f"{run}/{RESULTS}").get("artifacts", {}).values()}
    manifests = [name for name in sizes if entry(name) in artifacts and name.rpartition("/")[2].startswith("manifest")]
    return artifacts | {f"shards/{shard}" for name in manifests for shard in read(store, name)["shards"]}


def begun(store: Store, sizes: dict[str, int]) -> set[str]:
    """Work and artifacts of runs that were not finished; and all shards, for they may not have a manifest yet."""
    runs = folders_with(STATUS, sizes) - folders_with(RESULTS, sizes)
    stages = [stage for run in runs for stage in read(store, f"{run}/{STATUS}")["stages"]]
    shards = {name for name in sizes if name.startswith("shards/")} if runs else set()
    return shards | {folder for stage in stages for folder in stage["folders"]}


def folders_with(file: str, sizes: dict[str, int]) -> set[str]:
    """Folders at the top of the storage that have a file of that name: runs."""
    return {name.partition("/")[0] for name in sizes if name.count("/") == 1 and name.endswith(f"/{file}")}


def read(store: Store, name: str) -> Any:
    store.pull(store.root / name)
    return read_json(store.root / name)


def clean(store: Store, confirm: Callable[[str], bool], say: Callable[[str], None], unfinished: bool = False) -> None:
    """Show what no run needs, and remove it if that is confirmed; then this machine's copies of a remote storage."""
    found = unneeded(store, unfinished)
    for name, size in found.items():
        say(f"{decimal(size):>10}  {name}")
    if not found:
        say(f"{store.uri}: nothing to remove")
    elif confirm(f"remove {len(found)} entries, {decimal(sum(found.values()))}, that no run needs?"):
        still = unneeded(store, unfinished)  # a run may have begun while the question stood
        gone = found.keys() & still.keys()
        for name in gone:
            store.remove(store.root / name)
        say(f"removed {decimal(sum(found[name] for name in gone))}")
    copies = copies_of(store)
    if copies and confirm(
        f"remove this machine's copies, {decimal(sum(map(size_of, copies)))}, which are fetched anew?"
    ):
        for folder in copies:
            shutil.rmtree(folder)
