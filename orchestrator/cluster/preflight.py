"""Before anything is trained: can every node of the cluster do its part?"""

import os
import shutil
import socket
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from features.caching import map_folder
from features.corpus import TRAIN, VALIDATION, Clip
from orchestrator.cluster.resources import concurrency, fit
from orchestrator.config.experiment import Experiment, Resources
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
    size = feature_bytes(config, clips)
    missing = max(size - size_of(store.shards), 0)
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    trains = {node["NodeID"]: is_for_training(node, config.resources) for node in nodes}
    require_space("this machine", lack_of_space(store.root, missing, size if trains[here] else 0))
    others = [node for node in nodes if node["NodeID"] != here]
    if others:
        check_others(config, store, clips, others, missing)


def is_for_training(node: Mapping[str, Any], resources: Resources) -> bool:
    """Whether a trial fits on it: then it maps the features."""
    return fit(node["Resources"], resources.cpus_per_trial, resources.gpus_per_trial) > 0


def feature_bytes(config: Experiment, clips: Sequence[Clip]) -> int:
    """Of the static channels in half precision, of all clips and the copies of those that are trained on."""
    trained_on = (TRAIN, VALIDATION) if config.validation.folds > 1 else (TRAIN,)
    copied = sum(clip.split in trained_on for clip in clips) * len(config.kinds_of_copies)
    return 2 * (len(clips) + copied) * config.features.n_mels * config.features.frames


def lack_of_space(root: Path, shards: int, features: int) -> str | None:
    """What this machine has too little room for: so many bytes of shards below `root`, and a map of the features.

    Both may be on one disk. What is in the folder of maps already is this map, or can be removed for it.
    """
    wanted = {root: shards, map_folder(): max(features - size_of(map_folder()), 0)}
    on_disk: dict[int, dict[Path, int]] = {}
    for folder, size in wanted.items():
        on_disk.setdefault(existing(folder).stat().st_dev, {})[folder] = size
    for folders in on_disk.values():
        free, size = shutil.disk_usage(existing(next(iter(folders)))).free, sum(folders.values())
        if free < size:
            names = " and ".join(str(folder) for folder, needed in folders.items() if needed)
            return f"{decimal(free)} free for {names}, the features alone need {decimal(size)} more"
    return None


def shards_to_come(store: Store, missing: int, features: int) -> int:
    """Bytes of shards that a node will write: those missing in a shared folder, or all that its mirror lacks."""
    return max(features - size_of(store.shards), 0) if store.is_remote else missing


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def require_space(machine: str, lack: str | None) -> None:
    """Raises UserError where a machine lacks room."""
    if lack:
        raise UserError(f"{machine} has {lack}; make room, or choose another --storage or STILLHOUSE_MIRROR")


def check_others(
    config: Experiment, store: Store, clips: Sequence[Clip], nodes: Sequence[dict[str, Any]], missing: int
) -> None:
    """Check every other node by a task on it; `missing` shards have so many bytes. Raises UserError."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = store.root / f"preflight-{uuid.uuid4().hex}"
    token.write_text("from the driver")
    store.push(token)
    root, size = config.corpus.root.resolve(), feature_bytes(config, clips)
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(look)
    checks = [
        (
            node["NodeManagerHostname"],
            remote.options(
                name=f"preflight {node['NodeManagerHostname']}",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(
                store, token, root, clips[0].path, missing, size if is_for_training(node, config.resources) else 0
            ),
        )
        for node in nodes
    ]
    try:
        for name, reference in checks:
            try:
                require_alike(name, ray.get(reference, timeout=PATIENCE), store, root)
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


def look(store: Store, token: Path, root: Path, clip: str, shards: int, features: int) -> dict[str, Any]:
    """What a node sees: its versions, the driver's token, its own answer in the storage, the corpus, lack of space."""
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
        "lack": lack_of_space(store.root, shards_to_come(store, shards, features), features),
    }


def require_alike(name: str, seen: dict[str, Any], store: Store, root: Path) -> None:
    """Raises UserError where a node sees other things than the driver, or has no room for the features."""
    for package in NUMBERS:
        theirs, ours = seen["versions"].get(package), versions()[package]
        if theirs != ours:
            raise UserError(
                f"node {name} has {package} {theirs}, the driver {ours}; install the same version on every node "
                f"(Dockerfile, cluster.yaml)"
            )
    if seen["storage"]:
        raise UserError(
            f"node {name} {seen['storage']} in storage {store.uri}: use a folder that every node shares, or s3://..."
        )
    if not seen["corpus"]:
        raise UserError(f"node {name} does not see the corpus at {root}: mount it there under the same path")
    require_space(f"node {name}", seen["lack"])
