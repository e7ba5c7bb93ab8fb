"""Feature shards -> a map of them on each machine -> the splits of every cut."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from features.corpus import SPLITS, TEST, TRAIN, VALIDATION
from features.maps import FeatureMap, Progress, locate, silent
from features.store import DamagedShard
from orchestrator.cluster.preflight import is_for_training
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.computed import Computed, with_whole_shards
from orchestrator.stages.context import Data
from orchestrator.stages.trainable import reason_of
from orchestrator.storage.store import Store
from orchestrator.training.data import Features, Split


def prepare(config: Experiment, computed: Computed, store: Store, progress: Progress = silent) -> None:
    """Make the map of the features on every machine that trains, where it is missing. Raises UserError."""

    here, others = "", []
    if ray.is_initialized():
        here = ray.get_runtime_context().get_node_id()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        others = [node for node in nodes if is_for_training(node, config.resources)]

    def make() -> None:
        features, _ = located(config, computed, store)
        making = start_making(features, [node for node in others if node["NodeID"] != here])
        if here in ("", *(node["NodeID"] for node in others)):
            features.make(progress)
        wait_for(making)

    with_whole_shards(config, store, make)


def located(config: Experiment, computed: Computed, store: Store) -> tuple[FeatureMap, list[dict[str, int]]]:
    """The map of all clips and copies; the rows in it of the clips, then those of each kind of copies."""
    manifests = (computed.manifest, *computed.copies.values())
    shape = (config.features.n_mels, config.features.frames)
    return locate([[store.shards / name for name in manifest.shards] for manifest in manifests], shape, store)


def load_cuts(config: Experiment, computed: Computed, store: Store) -> list[Data]:
    """The splits, once for each cut, the run's own first. Raises UserError where the quarantine has emptied one."""
    features, rows = with_whole_shards(config, store, lambda: located(config, computed, store))
    return [cut_of(config, computed, features, rows, cut) for cut in computed.tables]


def cut_of(
    config: Experiment, computed: Computed, features: FeatureMap, rows: Sequence[Mapping[str, int]], cut: str
) -> Data:
    """The splits of one cut."""
    taxonomy = config.corpus.taxonomy
    clips = computed.tables[cut]

    def split(name: str, row_of: Mapping[str, int]) -> Split:
        usable = [clip for clip in clips if clip.split == name and clip.path in row_of]
        return Split.of(
            usable, Features(features, np.array([row_of[clip.path] for clip in usable], np.int64)), taxonomy
        )

    own, *copied = rows
    splits = {name: split(name, own) for name in SPLITS}
    for name, part in splits.items():
        if not len(part.scene) and (name == TRAIN or name not in config.corpus.fit_on):
            raise UserError(
                f"every clip of the {name} split is in quarantine; quarantine.csv in the run's folder says why"
            )
    for name in (TRAIN, VALIDATION):
        if name != TRAIN and name in config.corpus.fit_on:
            continue
        count = Counter(splits[name].scene.tolist())
        absent = [scene for index, scene in enumerate(taxonomy.scenes) if not count[index]]
        if absent:
            raise UserError(f"the {name} split has no usable clip of scene '{absent[0]}'")
    # Of validation's clips there are copies, too, where a fold is trained on them.
    copies = [split(TRAIN, row_of) for row_of in copied]
    return Data(
        computed.key(cut),
        computed.recordings_key(cut),
        splits[TRAIN].with_copies(copies),
        splits[VALIDATION],
        splits[TEST],
        computed.quarantine,
        computed.manifest.notes,
        {device: gains.tolist() for device, gains in (computed.correction.of if computed.correction else {}).items()},
        cut=cut,
    )


def start_making(features: FeatureMap, nodes: Sequence[Mapping[str, Any]]) -> dict[str, ray.ObjectRef]:
    """Start a task on each node that makes its map; by the nodes' names."""
    remote: Any = ray.remote(num_cpus=0)(FeatureMap.make)
    return {
        node["NodeManagerHostname"]: remote.options(
            name=f"map features on {node['NodeManagerHostname']}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(features)
        for node in nodes
    }


def wait_for(making: Mapping[str, ray.ObjectRef]) -> None:
    """Wait for all nodes. Raises DamagedShard, and UserError where a node has no room.

    A node that is lost meanwhile is none that trains: what takes its place makes its own map.
    """
    for name, reference in making.items():
        try:
            ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, DamagedShard):
                raise error.cause from None
            if isinstance(error.cause, OSError):
                raise UserError(f"node {name}: {reason_of(error.cause)}") from None
            raise
        except RayError:
            continue
