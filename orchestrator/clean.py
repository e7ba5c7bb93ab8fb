"""Removing what no run needs from a storage."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.filesize import decimal

from orchestrator.artifacts import Store, read_json
from orchestrator.lease import LEASE, require_free
from orchestrator.runs import RESULTS


def unneeded(store: Store) -> dict[str, int]:
    """Name -> bytes: work in progress, results that no finished run's results.json names, temporary files.

    Raises UserError where a run that is alive works there.
    """
    sizes = store.sizes()
    for name in sizes:
        if name.endswith(f"/{LEASE}"):
            file = store.root / name
            require_free(store, file, file.parent.parent.name if name.startswith("work/") else file.parent.name)
    used = needed(store, sizes)
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
    if kind in ("work", "artifacts") and len(rest) > 2:
        return "/".join((kind, *rest[:2]))
    return name if kind == "shards" and name.endswith(".parquet") else None


def needed(store: Store, sizes: dict[str, int]) -> set[str]:
    """Artifacts of finished runs, and the shards that these are made of."""
    runs = [name for name in sizes if name.count("/") == 1 and name.endswith(f"/{RESULTS}")]
    artifacts = {name for run in runs for name in read(store, run).get("artifacts", {}).values()}
    manifests = [name for name in sizes if entry(name) in artifacts and name.rpartition("/")[2].startswith("manifest")]
    return artifacts | {f"shards/{shard}" for name in manifests for shard in read(store, name)["shards"]}


def read(store: Store, name: str) -> Any:
    store.pull(store.root / name)
    return read_json(store.root / name)


def clean(store: Store, confirm: Callable[[str], bool], say: Callable[[str], None]) -> None:
    """Show what no finished run needs, and remove it if that is confirmed."""
    found = unneeded(store)
    if not found:
        say(f"{store.uri}: nothing to remove")
        return
    for name, size in found.items():
        say(f"{decimal(size):>10}  {name}")
    if confirm(f"remove {len(found)} entries, {decimal(sum(found.values()))}, that no finished run needs?"):
        still = unneeded(store)  # a run may have begun while the question stood
        for name in found.keys() & still.keys():
            store.remove(store.root / name)
        say(f"removed {decimal(sum(found.values()))}")
