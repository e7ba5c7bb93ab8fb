"""Recordings -> feature shards -> the splits in memory."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from features.copies import Copy
from features.corpus import SPLITS, TEST, TRAIN, VALIDATION, Clip
from features.precompute import Manifest, compute_shard, libraries, plan_shards, precompute, stamp
from features.settings import BY_RESPONSE
from features.spectrum import Responses, corrected, estimate, parallel_recordings
from features.store import FeatureSet, load
from models.seeding import derive
from orchestrator.code import code_of
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.errors import UserError
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.corpus import clips_of, needs_responses
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_tensors, save_tensors
from orchestrator.storage.work import working
from orchestrator.training.data import Split

COMPUTED_BY = (compute_shard, plan_shards, Copy, corrected, estimate)


@dataclass(frozen=True)
class Computed:
    """What there are features of: every clip, and the extra copies of the training clips."""

    clips: list[Clip]
    manifest: Manifest
    copies: dict[str, Manifest]  # kind -> its manifest
    correction: Responses | None  # what recordings were corrected by
    code: str  # digest of what computed them

    @property
    def quarantine(self) -> dict[str, str]:
        """Path -> reason: of the clips, and of copies that could not be made of a good clip."""
        refused = dict(self.manifest.quarantine)
        for kind, manifest in self.copies.items():
            refused |= {
                f"{path} ({kind})": reason for path, reason in manifest.quarantine.items() if path not in refused
            }
        return refused

    @property
    def recordings_key(self) -> str:
        """Stands for the clips without copies, and for what made numbers of them."""
        rows = [[clip.path, clip.scene, clip.split, clip.device] for clip in self.clips]
        return key_of(self.manifest.data_hash, self.code, libraries(), rows)

    @property
    def key(self) -> str:
        hashes = {kind: manifest.data_hash for kind, manifest in self.copies.items()}
        return key_of(self.recordings_key, hashes) if hashes else self.recordings_key


def compute(
    config: Experiment,
    store: Store,
    progress: Callable[[int, int], None] = lambda done, total: None,
    parallel: bool = True,
) -> Computed:
    """Compute the shards that are missing. Raises CorpusError."""
    clips = clips_of(config)
    training = [clip for clip in clips if clip.split == TRAIN]
    responses = None
    if needs_responses(config):
        responses = measured(config, clips, store)
    correction = responses if config.spectrum.correct else None
    seed = derive(config.seed, "copies")
    copies = [
        Copy(kind, config.copies, seed, responses if kind in BY_RESPONSE else None) for kind in config.kinds_of_copies
    ]
    code = code_of(*COMPUTED_BY)
    parts = [clips, *(copy.clips(training) for copy in copies)]
    total = sum(map(len, parts))
    manifests, before = [], 0
    for copy, part in zip((None, *copies), parts, strict=True):
        manifests.append(
            precompute(
                config.corpus.root,
                part,
                config.features,
                store.shards,
                lambda done, _, before=before: progress(before + done, total),
                parallel,
                copy,
                correction,
                store,
                code,
            )
        )
        before += len(part)
    return Computed(
        clips, manifests[0], dict(zip(config.kinds_of_copies, manifests[1:], strict=True)), correction, code
    )


def measured(config: Experiment, clips: list[Clip], store: Store) -> Responses:
    """Devices' responses, kept beside the shards once they are estimated. Raises CorpusError."""
    root, reference = config.corpus.root, config.spectrum.reference
    pairs = parallel_recordings(clips, reference)
    recordings = [
        (device, clip.path, stamp(root / clip.path), [other.path for other in references])
        for device, rows in pairs.items()
        for clip, references in rows
    ]
    file = store.shards / f"responses-{key_of(basis(estimate), config.features, reference, recordings)}.safetensors"
    if store.has(file):
        store.pull(file)
        return Responses(reference, {device: gains.numpy() for device, gains in load_tensors(file).items()})
    responses = estimate(root, clips, config.features, reference)
    save_tensors(file, {device: torch.from_numpy(gains) for device, gains in responses.of.items()})
    store.push(file)
    return responses


def run(context: Context) -> tuple[Computed, Path]:
    """Compute what is missing and publish the manifests; return what there is and the artifact."""
    config, store = context.config, context.store
    key = key_of(
        basis(*COMPUTED_BY), config.corpus, config.features, config.spectrum, config.kinds_of_copies, config.copies
    )
    announce_restart(context, "features", "features", key)
    with context.view.stage("features") as bar, working(store, "features", key, bar.wait, bar.so_far) as work:
        computed = compute(config, store, lambda done, total: bar.update(done, total, f"{done} of {total} clips"))
        manifest = computed.manifest
        refused = f", {len(computed.quarantine)} quarantined" if computed.quarantine else ""
        extra = f", copies: {', '.join(computed.copies)}" if computed.copies else ""
        bar.about(f"{manifest.clips} clips{refused}{extra}")
        if store.finished("features", computed.key) is None:
            with store.publish("features", computed.key) as target:
                (target / "manifest.json").write_text(manifest.to_json())
                for kind, copy in computed.copies.items():
                    (target / f"manifest-{kind}.json").write_text(copy.to_json())
                record(target, work.seconds, clips=manifest.clips)
        bar.made_in(published(store, "features", computed.key))
        work.discard()
    return computed, published(store, "features", computed.key)


def load_data(config: Experiment, computed: Computed, shards: Path) -> Data:
    """The splits in memory. Raises UserError where the quarantine has emptied one."""
    shape = (config.features.n_mels, config.features.frames)
    taxonomy = config.corpus.taxonomy

    def features(manifest: Manifest) -> FeatureSet:
        return load([shards / name for name in manifest.shards], computed.clips, shape)

    everything = features(computed.manifest)
    splits = {name: Split.of(everything.of_split(name), taxonomy) for name in SPLITS}
    for name, split in splits.items():
        if not len(split.scene) and (name == TRAIN or name not in config.corpus.fit_on):
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
    copies = [Split.of(features(manifest), taxonomy) for manifest in computed.copies.values()]
    return Data(
        computed.key,
        computed.recordings_key,
        splits[TRAIN].with_copies(copies),
        splits[VALIDATION],
        splits[TEST],
        computed.quarantine,
        computed.manifest.notes,
        {device: gains.tolist() for device, gains in (computed.correction.of if computed.correction else {}).items()},
    )
