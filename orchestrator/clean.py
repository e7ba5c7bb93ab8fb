"""Removing what no run needs from a storage."""

from collections.abc import Callable
from pathlib import Path

from orchestrator.artifacts import Store, read_json
from orchestrator.lease import LEASE, require_free
from orchestrator.runs import RESULTS

MIB = 2**20


def unneeded(store: Store) -> dict[Path, int]:
    """Folder or file -> bytes: work in progress, results that no finished run's results.json names, temporary files.

    Raises UserError where a run that is alive works there.
    """
    store.pull(store.root)
    used, shards = named_by_runs(store)
    found = [*store.root.glob("work/*/*"), *(path for path in store.root.glob("artifacts/*/*") if path not in used)]
    found += [path for path in store.root.glob("shards/*.parquet") if path.name not in shards]
    found += [path for path in store.root.rglob(".*.tmp") if not any(path.is_relative_to(other) for other in found)]
    for path in store.root.glob(f"*/{LEASE}"):
        require_free(store, path, f"the run {path.parent.name}")
    for path in store.root.glob(f"work/*/*/{LEASE}"):
        require_free(store, path, path.parent.parent.name)
    return {path: bytes_of(path) for path in found}


def named_by_runs(store: Store) -> tuple[set[Path], set[str]]:
    """Artifacts of finished runs, and the shards that these are made of."""
    artifacts = {
        store.root / name
        for file in store.root.glob(f"*/{RESULTS}")
        for name in read_json(file).get("artifacts", {}).values()
    }
    manifests = [file for folder in artifacts for file in folder.glob("manifest*.json")]
    return artifacts, {shard for file in manifests for shard in read_json(file)["shards"]}


def bytes_of(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def clean(store: Store, confirm: Callable[[str], bool], say: Callable[[str], None]) -> None:
    """Show what no finished run needs, and remove it if that is confirmed."""
    found = unneeded(store)
    if not found:
        say(f"{store.uri}: nothing to remove")
        return
    for path, size in sorted(found.items()):
        say(f"{size / MIB:>9.1f} MiB  {store.name(path)}")
    if confirm(f"remove {len(found)} entries, {sum(found.values()) / MIB:.1f} MiB, that no finished run needs?"):
        for path in found:
            store.remove(path)
        say(f"removed {sum(found.values()) / MIB:.1f} MiB")
