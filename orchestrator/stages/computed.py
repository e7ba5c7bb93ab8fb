"""Recordings -> feature shards: which there are, and those that are missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from features.copies import Copy
from features.corpus import TRAIN, VALIDATION, Clip
from features.precompute import Manifest, precompute
from features.settings import BY_RESPONSE
from features.shards import compute_shard, libraries, plan_shards, stamp
from features.spectrum import Responses, corrected, estimate, parallel_recordings
from features.store import DamagedShard
from models.seeding import derive
from orchestrator.arithmetic import arithmetic
from orchestrator.code import code_of
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.errors import Unreadable
from orchestrator.stages.context import basis
from orchestrator.stages.corpus import needs_responses, tables_of
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_tensors, save_tensors

COMPUTED_BY = (compute_shard, plan_shards, Copy, corrected, estimate)


@dataclass(frozen=True)
class Computed:
    """What there are features of: every clip, and the extra copies of those that are trained on."""

    tables: dict[str, list[Clip]]  # the table of clips by cut; the run's own has no name
    manifest: Manifest
    copies: dict[str, Manifest]  # by kind; by kind and fold where there are folds
    correction: Responses | None  # what recordings were corrected by
    code: str  # digest of what computed them, and in which arithmetic

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
    def clips(self) -> list[Clip]:
        return self.tables[""]

    def recordings_key(self, cut: str = "") -> str:
        """Stands for a cut's table of clips, without copies, and for what made numbers of them."""
        rows = [[clip.path, clip.scene, clip.split, clip.device] for clip in self.tables[cut]]
        return key_of(self.manifest.data_hash, self.code, libraries(), rows)

    def key(self, cut: str = "") -> str:
        """Stands for the copies, too."""
        hashes = {kind: manifest.data_hash for kind, manifest in self.copies.items()}
        return key_of(self.recordings_key(cut), hashes) if hashes else self.recordings_key(cut)


def compute(
    config: Experiment,
    store: Store,
    progress: Callable[[int, int], None] = lambda done, total: None,
    parallel: bool = True,
) -> Computed:
    """Compute the shards that are missing. Raises CorpusError."""
    tables = tables_of(config)
    clips, responses = tables[""], None
    if needs_responses(config):
        responses = measured(config, clips, store)
    correction = responses if config.spectrum.correct else None
    seed = derive(config.seed, "copies")
    copies = [
        Copy(kind, config.copies, seed, responses if kind in BY_RESPONSE else None) for kind in config.kinds_of_copies
    ]
    code = key_of(code_of(*COMPUTED_BY), arithmetic())
    parts: list[tuple[str, Copy | None, list[Clip]]] = [("", None, clips)]
    for name, part in copied_parts(tables).items():
        parts += [(f"{copy.kind}{name}", copy, copy.clips(part)) for copy in copies]
    total = sum(len(part) for _, _, part in parts)
    manifests, before = {}, 0
    for name, copy, part in parts:
        manifests[name] = precompute(
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
        before += len(part)
    return Computed(tables, manifests.pop(""), manifests, correction, code)


def copied_parts(tables: Mapping[str, Sequence[Clip]]) -> dict[str, list[Clip]]:
    """The clips that are copied, by a part of the copies' names: one part, or one for each fold.

    A clip is mixed with another of its part alone, so that no fold is heard in the training clips of its trials.
    """
    folds = {cut: clips for cut, clips in tables.items() if cut}
    if not folds:
        return {"": [clip for clip in tables[""] if clip.split == TRAIN]}
    return {f"-{cut}": [clip for clip in clips if clip.split == VALIDATION] for cut, clips in folds.items()}


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
        try:
            return Responses(reference, {device: gains.numpy() for device, gains in load_tensors(file).items()})
        except Unreadable as error:
            store.tell(f"  devices' responses are measured again: {error}")
            store.remove(file)
    responses = estimate(root, clips, config.features, reference)
    save_tensors(file, {device: torch.from_numpy(gains) for device, gains in responses.of.items()})
    store.push(file)
    return responses


def with_whole_shards[T](config: Experiment, store: Store, read: Callable[[], T]) -> T:
    """What `read` makes of the shards. One with a torn page, which only reading shows, is computed again, once."""
    mended: set[Path] = set()
    while True:
        try:
            return read()
        except DamagedShard as error:
            store.remove(error.path)
            if error.path in mended:
                raise
            mended.add(error.path)
            store.tell(f"  {store.name(error.path)} is damaged and is computed again")
            compute(config, store, parallel=False)
