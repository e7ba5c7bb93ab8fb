"""What is fuzzed: each kind of input with a good example, and with what reads it."""

import io
import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
from rich.console import Console

from features.audio import read
from features.decoding import BadAudio, decode, decode_pcm24
from features.folders import Folders, read_folders
from features.generated import CorpusSize, make_corpus
from features.precompute import precompute
from features.readers import read_manifest, read_tau
from features.settings import FrontEnd
from features.store import Shard, is_whole, read_index, read_shard, write_shard
from features.taxonomy import Taxonomy
from orchestrator.cli.main import user_message
from orchestrator.config.experiment import to_yaml
from orchestrator.config.loading import PRESETS, load
from orchestrator.errors import UserError
from orchestrator.export.facts import read_facts
from orchestrator.finished.compare import compare
from orchestrator.finished.refit import refit_of
from orchestrator.report.build import write_model_card, write_report
from orchestrator.storage import address
from orchestrator.storage.clean import look
from orchestrator.storage.store import Store
from orchestrator.training.journal import trials_in
from orchestrator.watch.state import Watcher
from tests.fuzz.changing import WORDS, changed_bytes, changed_text
from tests.fuzz.trying import Kind, Wrong
from tests.orchestrator.report import sample_runs
from tests.orchestrator.watch import storages

CASES = Path(__file__).parents[3] / "shared" / "cases"
RATE, SECONDS = 22_050, 0.5
SCENES = Taxonomy(("bus", "park"), (), ())
FRONT_END = FrontEnd(sample_rate=8000, clip_seconds=0.25, n_fft=256, hop_length=128, n_mels=16)


def refusal(*steps: Callable[[], object]) -> str | None:
    """The line that a person would read of the first step that refuses; None where none does."""
    said = None
    for step in steps:
        try:
            step()
        except Exception as error:
            message = user_message(error)
            if message is None:
                raise
            said = said or message
    return said


def nothing(folder: Path) -> None:
    """Nothing to prepare."""


# Recordings


@cache
def recordings() -> tuple[bytes, ...]:
    """A third of a second in every container and codec that libsndfile writes here, and the cases once read wrong."""
    draw = np.random.default_rng(0)
    found = []
    for container in sorted(soundfile.available_formats().keys() - {"SD2"}):  # whose writer leaves a file "._" behind
        for subtype in soundfile.available_subtypes(container):
            for channels, rate in ((1, RATE), (2, 48_000), (1, 8000)):
                file = io.BytesIO()
                sound = draw.normal(0, 0.1, (rate // 3, channels))
                with suppress(soundfile.LibsndfileError, ValueError, TypeError):
                    soundfile.write(file, sound, rate, subtype, format=container)
                    found.append(file.getvalue())
    kept = sorted(CASES.glob("*.*")) if CASES.is_dir() else []
    return (*found, *(file.read_bytes() for file in kept if file.suffix != ".md"))


def write_recording(draw: random.Random, folder: Path) -> None:
    (folder / "recording").write_bytes(changed_bytes(draw, draw.choice(recordings())))


def judge_recording(folder: Path) -> str | None:
    """Read as training and as `predict` read it; what we decode ourselves is compared with libsndfile."""
    file = folder / "recording"
    try:
        recording = read(file, RATE, SECONDS)
    except BadAudio as error:
        return str(error)
    if recording.samples.shape != (round(RATE * SECONDS),) or not np.isfinite(recording.samples).all():
        raise Wrong(f"{recording.samples.shape} samples")
    data = file.read_bytes()
    ours = decode_pcm24(data)
    if ours is not None:
        with suppress(BadAudio):
            theirs = decode(data)
            if theirs.rate != ours.rate or not np.array_equal(theirs.samples, ours.samples):
                raise Wrong("not the samples that libsndfile decodes")
    return None


CLIPS = 16


def write_recordings(draw: random.Random, folder: Path) -> None:
    shutil.rmtree(folder / "corpus", ignore_errors=True)
    for number in range(CLIPS):
        name = draw.choice(("x", "é", "a b", "-", "#", "%41", "'", "💥", "\\", "..wav")) + f"{number}.wav"
        place = folder / "corpus" / ("bus" if number % 2 else "park")
        place.mkdir(parents=True, exist_ok=True)
        data = draw.choice(recordings())
        (place / name).write_bytes(data if draw.random() < 0.3 else changed_bytes(draw, data))


def judge_recordings(folder: Path) -> str | None:
    """A corpus of a folder a scene: every clip has features or a reason."""
    shutil.rmtree(folder / "shards", ignore_errors=True)

    def whole() -> None:
        clips = read_folders(
            folder / "corpus", Folders("(?P<split>.)", {"train": ["x", "é", "a", "-"], "test": ["#"]}), SCENES
        )
        made = precompute(folder / "corpus", clips, FRONT_END, folder / "shards", parallel=False)
        if made.clips + len(made.quarantine) != len(clips):
            raise Wrong(f"{made.clips} and {len(made.quarantine)} of {len(clips)} clips")

    return refusal(whole)


# Settings and tables


def write_yaml(draw: random.Random, folder: Path) -> None:
    preset = draw.choice(sorted(PRESETS.glob("*.yaml")))
    (folder / "experiment.yaml").write_bytes(changed_text(draw, preset.read_text()))


def judge_yaml(folder: Path) -> str | None:
    return refusal(lambda: load(str(folder / "experiment.yaml")))


def prepare_tables(folder: Path) -> None:
    make_corpus(folder / "tau", CorpusSize(cities=1, train_locations=2, train_segments=2, seconds=1.0), seed=5)
    clips = sorted(path.relative_to(folder / "tau").as_posix() for path in (folder / "tau").rglob("*.wav"))
    rows = [
        f"{path},{'bus' if n % 2 else 'park'},{'train' if n % 3 else 'test'},{path}" for n, path in enumerate(clips)
    ]
    (folder / "good.csv").write_text("\n".join(["path,scene,split,location", *rows[:40]]) + "\n")
    (folder / "good-meta.csv").write_bytes((folder / "tau/meta.csv").read_bytes())


def write_table(draw: random.Random, folder: Path) -> None:
    (folder / "manifest.csv").write_bytes(changed_text(draw, (folder / "good.csv").read_text()))
    (folder / "tau/meta.csv").write_bytes(changed_text(draw, (folder / "good-meta.csv").read_text()))


def judge_table(folder: Path) -> str | None:
    return refusal(
        lambda: read_manifest(folder / "tau", folder / "manifest.csv", SCENES),
        lambda: read_tau(folder / "tau", Taxonomy(tuple(sample_runs.SCENES), (), ())),
    )


# Files of our own

TEXTS = (
    *("results.json", "versions.json", "config.yaml", "metrics.jsonl", "models/student.json", "status.json"),
    *("trial.json", "rows.jsonl", "manifest.json"),
)


def prepare_storage(folder: Path) -> None:
    """A finished run, and one under way with its trials."""
    root = folder / "good"
    shutil.rmtree(root, ignore_errors=True)
    run = sample_runs.write_run(root / storages.RUN)
    settings = ["student.recipe.cycle_ends=[2, 6, 14, 30, 62, 126]", "student.average=[30, 126]"]
    (run / "config.yaml").write_text(to_yaml(load("esc10", settings)))
    storages.write_run(root)
    storages.write_search(root, trials=4)
    artifact = root / "artifacts/features/aaaa"
    artifact.mkdir(parents=True)
    (artifact / "manifest.json").write_text(json.dumps({"shards": ["x.parquet"]}))


def files_of(root: Path) -> dict[str, Path]:
    """The good storage's files, by what TEXTS calls them."""
    found = {name: root / storages.RUN / name for name in TEXTS[:6]}
    trial = sorted(root.glob("work/search/*/trials/*/trial.json"))[0]
    found |= {"trial.json": trial, "rows.jsonl": trial.with_name("rows.jsonl")}
    return found | {"manifest.json": root / "artifacts/features/aaaa/manifest.json"}


def write_text(draw: random.Random, folder: Path) -> None:
    renew(folder)
    file = files_of(folder / "storage")[draw.choice(TEXTS)]
    file.write_bytes(changed_text(draw, file.read_text()))


def renew(folder: Path) -> None:
    shutil.rmtree(folder / "storage", ignore_errors=True)
    shutil.copytree(folder / "good", folder / "storage")


def judge_storage(folder: Path) -> str | None:
    """All that reads a storage which it has not written itself."""
    root = folder / "storage"
    run, console = root / storages.RUN, Console(file=io.StringIO(), width=200)
    return refusal(
        lambda: write_report(run),
        lambda: write_model_card(run),
        lambda: compare(run, folder / "good" / storages.RUN, console),
        lambda: refit_of(run, total=False),
        lambda: watched(root, run),
        lambda: look(Store(root)),
        lambda: [trials_in(place) for place in root.glob("work/search/*")],
        lambda: read_facts(run / "models/student.json"),
    )


def watched(root: Path, run: Path) -> None:
    """What the live page shows; the server answers with the text of an OSError."""
    try:
        json.loads(Watcher(Store(root), run).answer().body)
    except OSError as error:
        raise UserError(str(error)) from None


def write_parquet(draw: random.Random, folder: Path) -> None:
    renew(folder)
    file = folder / "storage" / storages.RUN / "trials.parquet"
    if draw.random() < 0.7:
        file.write_bytes(changed_bytes(draw, file.read_bytes()))
        return
    table = pq.read_table(file)
    name = draw.choice(table.column_names)
    other = draw.choice([None, "text", 1.5, True, [1], {"a": 1}, float("nan"), -(2**63)])
    column = [other] * len(table)
    changed = table.drop_columns([name]) if draw.random() < 0.3 else table.set_column(0, name, [column])
    pq.write_table(changed, file)


def write_shards(draw: random.Random, folder: Path) -> None:
    static = np.random.default_rng(0).normal(0, 1, (3, 4, 5)).astype(np.float16)
    file = folder / "shard.parquet"
    write_shard(file, Shard(["a", "b", "c"], ["1", "2", "3"], ["", "note", ""], static, {"d": "no samples"}))
    file.write_bytes(changed_bytes(draw, file.read_bytes()))


def judge_shard(folder: Path) -> str | None:
    """A shard that counts as whole has its values, or says that it is damaged."""
    file = folder / "shard.parquet"
    if not is_whole(file, 20):
        return "not whole"

    def same() -> None:
        paths, static = read_shard(file, (4, 5))
        expected = np.random.default_rng(0).normal(0, 1, (3, 4, 5)).astype(np.float16)
        rows, refused = read_index(file)
        if paths != ["a", "b", "c"] or not np.array_equal(static, expected):
            raise Wrong("other values under the same name")
        if [row["digest"] for row in rows] != ["1", "2", "3"] or refused != {"d": "no samples"}:
            raise Wrong("another index under the same name")

    return refusal(same)


# Names


def write_name(draw: random.Random, folder: Path) -> None:
    parts = [draw.choice((*WORDS, "prefix", ".", "..", "a#b", "?region=eu", "@", ":", "%2e%2e")) for _ in range(3)]
    text = f"{draw.choice(('s3', 's3', 's3', 'gs', 'file', ''))}://bucket/{'/'.join(parts)}"
    text += "" if "?" in text else "?region=eu-central-1"  # which nobody is asked for, then
    (folder / "name").write_text(text.encode("utf-8", "replace").decode(), newline="")


def judge_name(folder: Path) -> str | None:
    """An address of a storage: taken, or refused without showing what it hides."""
    text = (folder / "name").read_bytes().decode()
    return refusal(lambda: address.parse(text) if text.startswith("s3://") else Store(text))


KINDS = {
    "audio": Kind(nothing, write_recording, judge_recording),
    "corpus": Kind(nothing, write_recordings, judge_recordings),
    "yaml": Kind(nothing, write_yaml, judge_yaml),
    "tables": Kind(prepare_tables, write_table, judge_table),
    "json": Kind(prepare_storage, write_text, judge_storage),
    "parquet": Kind(prepare_storage, write_parquet, judge_storage),
    "shards": Kind(nothing, write_shards, judge_shard),
    "names": Kind(nothing, write_name, judge_name),
}
