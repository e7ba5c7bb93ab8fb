"""Recordings -> feature shards -> the splits in memory."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.copies import Copy
from features.corpus import SPLITS, TEST, TRAIN, VALIDATION, Clip, cut_validation, read_folders, read_manifest, read_tau
from features.generated import make_corpus
from features.precompute import Manifest, precompute
from features.store import FeatureSet, load
from models.seeding import derive
from orchestrator.config import CorpusSettings, Experiment, key_of
from orchestrator.data import Split
from orchestrator.errors import UserError
from orchestrator.stages import FORMAT, Clock, Context, Data, record


def read_corpus(corpus: CorpusSettings, seed: int) -> list[Clip]:
    """The table of clips with its validation split. Raises CorpusError."""
    if corpus.layout == "tau":
        clips = read_tau(corpus.root, corpus.taxonomy)
    elif corpus.layout == "manifest":
        clips = read_manifest(corpus.root, corpus.root / corpus.manifest, corpus.taxonomy)
    else:
        clips = read_folders(corpus.root, corpus.pattern, corpus.splits, corpus.taxonomy)
    return cut_validation(clips, corpus.validation_fraction, derive(seed, "validation"))


def run_corpus(context: Context) -> None:
    """Make the generated corpus where the config asks for one and there is none."""
    corpus = context.config.corpus
    if corpus.generate is None or corpus.root.exists():
        return
    with context.view.stage("corpus") as bar:
        count = make_corpus(corpus.root, corpus.generate, context.config.seed, bar.update)
        bar.detail = f"{count} generated recordings in {corpus.root}"


@dataclass(frozen=True)
class Computed:
    """What there are features of: every clip, and the extra copies of the training clips."""

    clips: list[Clip]
    manifest: Manifest
    copies: dict[str, Manifest]  # kind -> its manifest

    @property
    def recordings_key(self) -> str:
        """Stands for the clips without copies."""
        rows = [[clip.path, clip.scene, clip.split, clip.device] for clip in self.clips]
        return key_of(self.manifest.data_hash, rows)

    @property
    def key(self) -> str:
        hashes = {kind: manifest.data_hash for kind, manifest in self.copies.items()}
        return key_of(self.recordings_key, hashes) if hashes else self.recordings_key


def compute(
    config: Experiment,
    shards: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    parallel: bool = True,
) -> Computed:
    """Compute the shards that are missing. Raises CorpusError."""
    clips = read_corpus(config.corpus, config.seed)
    training = [clip for clip in clips if clip.split == TRAIN]
    copies = [Copy(kind, config.copies, derive(config.seed, "copies")) for kind in config.copies.kinds]
    total = len(clips) + len(copies) * len(training)
    manifests, before = [], 0
    for copy in (None, *copies):
        part = clips if copy is None else training
        manifests.append(
            precompute(
                config.corpus.root,
                part,
                config.features,
                shards,
                lambda done, _, before=before: progress(before + done, total),
                parallel,
                copy,
            )
        )
        before += len(part)
    return Computed(clips, manifests[0], dict(zip(config.copies.kinds, manifests[1:], strict=True)))


def run(context: Context) -> tuple[Computed, Path]:
    """Compute what is missing and publish the manifests; return what there is and the artifact."""
    config, store = context.config, context.store
    work = store.work("features", key_of(FORMAT, config.corpus, config.features, config.copies))
    clock = Clock(work)
    with context.view.stage("features") as bar:
        try:
            computed = compute(
                config, store.shards, lambda done, total: bar.update(done, total, f"{done} of {total} clips")
            )
        finally:
            seconds = clock.save()
        manifest = computed.manifest
        refused = f", {len(manifest.quarantine)} quarantined" if manifest.quarantine else ""
        extra = f", copies: {', '.join(computed.copies)}" if computed.copies else ""
        bar.detail = f"{manifest.clips} clips{refused}{extra}"
    if store.finished("features", computed.key) is None:
        with store.publish("features", computed.key) as target:
            (target / "manifest.json").write_text(manifest.to_json())
            for kind, copy in computed.copies.items():
                (target / f"manifest-{kind}.json").write_text(copy.to_json())
            record(target, seconds, clips=manifest.clips)
    shutil.rmtree(work)
    folder = store.finished("features", computed.key)
    assert folder is not None
    return computed, folder


def load_data(config: Experiment, computed: Computed, shards: Path) -> Data:
    """The splits in memory. Raises UserError where the quarantine has emptied one."""
    shape = (config.features.n_mels, config.features.frames)
    taxonomy = config.corpus.taxonomy

    def features(manifest: Manifest) -> FeatureSet:
        return load([shards / name for name in manifest.shards], computed.clips, shape)

    everything = features(computed.manifest)
    splits = {name: Split.of(everything.of_split(name), taxonomy) for name in SPLITS}
    for name, split in splits.items():
        if not len(split.scene):
            raise UserError(
                f"every clip of the {name} split is in quarantine; quarantine.csv in the run's folder says why"
            )
    for name in (TRAIN, VALIDATION):
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
        computed.manifest.quarantine,
        computed.manifest.notes,
    )
