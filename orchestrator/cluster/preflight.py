"""Before anything is trained: can every node of the cluster do its part?"""

import os
import shutil
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from features.corpus import Clip
from orchestrator.cluster.connection import concurrency
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.storage.remote import hurried
from orchestrator.storage.scratch import size_of
from orchestrator.storage.store import Store
from orchestrator.versions import NUMBERS, versions

PATIENCE = 120.0  # seconds for a node to look; it may have to start a process


def preflight(config: Experiment, store: Store, clips: Sequence[Clip]) -> None:
    """Raises UserError with the first thing that would fail later: resources, versions, storage, corpus, space."""
    import ray

    concurrency(config.resources)
    size = feature_bytes(config, len(clips))
    missing = max(size - size_of(store.shards), 0)
    require_space(store.root, missing, "the storage's folder")
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    for node in nodes:
        memory = node["Resources"].get("object_store_memory", 0)
        if memory < size and node["Resources"].get("CPU", 0) >= 1:
            raise UserError(
                f"node {node['NodeManagerHostname']} has an object store of {decimal(memory)}, the features need "
                f"{decimal(size)}: start Ray there with a larger --object-store-memory"
            )
    others = [node for node in nodes if node["NodeID"] != here]
    if others:
        check_others(config, store, clips, others, missing)


def feature_bytes(config: Experiment, clips: int) -> int:
    """Of the static channels in half precision, extra copies of the clips included."""
    return 2 * clips * (1 + len(config.kinds_of_copies)) * config.features.n_mels * config.features.frames


def require_space(folder: Path, size: int, what: str) -> None:
    """Raise UserError where the folder's disk has not `size` bytes free."""
    require_free_bytes(shutil.disk_usage(folder).free, size, f"{what} ({folder})")


def require_free_bytes(free: int, size: int, what: str) -> None:
    """Raises UserError where `what` has fewer than `size` bytes free."""
    if free < size:
        raise UserError(
            f"{what} has {decimal(free)} free, the features alone need {decimal(size)} more; make room or choose "
            f"another --storage"
        )


def check_others(
    config: Experiment, store: Store, clips: Sequence[Clip], nodes: Sequence[dict[str, Any]], size: int
) -> None:
    """Check every other node by a task on it; `size` is that of the missing features in bytes. Raises UserError."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = store.root / f"preflight-{uuid.uuid4().hex}"
    token.write_text("from the driver")
    store.push(token)
    root = config.corpus.root.resolve()
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(look)
    checks = [
        (
            node["NodeManagerHostname"],
            remote.options(
                name=f"preflight {node['NodeManagerHostname']}",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(store, token, root, clips[0].path),
        )
        for node in nodes
    ]
    try:
        for name, reference in checks:
            try:
                require_alike(name, ray.get(reference, timeout=PATIENCE), store, root, size)
            except GetTimeoutError:
                raise UserError(
                    f"node {name} has not answered for {PATIENCE:.0f} s: can it reach {store.uri} and {root}?"
                ) from None
            except RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"node {name} cannot run Stillhouse ({reason}); install the same version there (Dockerfile, "
                    f"cluster.yaml)"
                ) from None
    finally:
        store.remove(token)


def look(store: Store, token: Path, root: Path, clip: str) -> dict[str, Any]:
    """What a node sees: its versions, the driver's token, its own answer in the storage, the corpus, free bytes."""
    answer = token.with_name(f"{token.name}-{os.getpid()}")
    try:
        with hurried():
            store.pull(token)
            answer.parent.mkdir(parents=True, exist_ok=True)
            answer.write_text("from a node")
            store.push(answer)
            problem = None if token.exists() else "does not see what the driver wrote"
            store.remove(answer)
    except OSError as error:
        problem = f"cannot write: {error.strerror or error}"
    return {
        "host": socket.gethostname(),
        "versions": versions(),
        "storage": problem,
        "corpus": (root / clip).is_file(),
        "free": shutil.disk_usage(next(folder for folder in token.parents if folder.exists())).free,
    }


def require_alike(name: str, seen: dict[str, Any], store: Store, root: Path, size: int) -> None:
    """Raises UserError where a node sees other things than the driver, or has no room for the features."""
    for package in NUMBERS:
        if seen["versions"][package] != versions()[package]:
            raise UserError(
                f"node {name} has {package} {seen['versions'][package]}, the driver {versions()[package]}; install the "
                f"same version on every node (Dockerfile, cluster.yaml)"
            )
    if seen["storage"]:
        raise UserError(
            f"node {name} {seen['storage']} in storage {store.uri}: use a folder that every node shares, or s3://..."
        )
    if not seen["corpus"]:
        raise UserError(f"node {name} does not see the corpus at {root}: mount it there under the same path")
    require_free_bytes(seen["free"], size, f"node {name}: the disk of {store.root}")
