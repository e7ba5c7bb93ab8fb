"""Recordings -> feature shards -> the splits in memory."""

import shutil
from collections import Counter
from pathlib import Path

from features.corpus import SPLITS, TEST, TRAIN, VALIDATION, Clip, cut_validation, read_folders, read_manifest, read_tau
from features.generated import make_corpus
from features.precompute import Manifest, precompute
from features.store import load
from models.seeding import derive
from orchestrator.config import CorpusSettings, Experiment, key_of
from orchestrator.errors import UserError
from orchestrator.stages import FORMAT, Clock, Context, Data, record
from orchestrator.training import Split


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


def run(context: Context) -> tuple[Manifest, list[Clip], Path]:
    """Compute what is missing and publish the manifest; return it, the table of clips and the artifact."""
    config, store = context.config, context.store
    clips = read_corpus(config.corpus, config.seed)
    work = store.work("features", key_of(FORMAT, config.corpus, config.features))
    clock = Clock(work)
    with context.view.stage("features") as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done, total, f"{done} of {total} clips")

        try:
            manifest = precompute(config.corpus.root.resolve(), clips, config.features, store.shards, progress)
        finally:
            seconds = clock.save()
        refused = f", {len(manifest.quarantine)} quarantined" if manifest.quarantine else ""
        bar.detail = f"{manifest.clips} clips{refused}"
    key = key_of(manifest.data_hash, [[clip.path, clip.scene, clip.split, clip.device] for clip in clips])
    if store.finished("features", key) is None:
        with store.publish("features", key) as target:
            (target / "manifest.json").write_text(manifest.to_json())
            record(target, seconds, clips=manifest.clips)
    shutil.rmtree(work)
    folder = store.finished("features", key)
    assert folder is not None
    return manifest, clips, folder


def load_data(config: Experiment, manifest: Manifest, clips: list[Clip], shards: Path, key: str) -> Data:
    """The splits in memory. Raises UserError where the quarantine has emptied one."""
    features = load(
        [shards / name for name in manifest.shards], clips, (config.features.n_mels, config.features.frames)
    )
    taxonomy = config.corpus.taxonomy
    splits = {name: Split.of(features.of_split(name), taxonomy) for name in SPLITS}
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
    return Data(key, splits[TRAIN], splits[VALIDATION], splits[TEST], manifest.quarantine, manifest.notes)
