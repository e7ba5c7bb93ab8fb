"""Clips to shards: what is computed, what is not computed again, and what a bad clip does to the others."""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf

from features.copies import Copy
from features.corpus import TRAIN, Clip, CorpusError
from features.precompute import Manifest, compute_here, precompute
from features.settings import Copies, FrontEnd
from features.shards import ShardJob, libraries, plan_shards
from features.store import read_shard
from tests.features.reading import load

SMALL = FrontEnd(sample_rate=8000, clip_seconds=0.25, n_fft=256, hop_length=128, n_mels=16)
SHAPE = (SMALL.n_mels, SMALL.frames)
COUNT = 300  # clips, in four shards
BAD = {"audio/000.wav": b"", "audio/077.wav": b"RIFF, but not really"}


def clips_in(root: Path) -> list[Clip]:
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.wav"))
    return [Clip(path, "bus", TRAIN, path) for path in paths]


def record(path: Path, seed: int, seconds: float = 0.25) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.05, round(seconds * SMALL.sample_rate))
    sf.write(path, samples, SMALL.sample_rate, subtype="PCM_24")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Good clips, which no test changes."""
    root = tmp_path_factory.mktemp("recordings")
    for number in range(COUNT):
        record(root / f"audio/{number:03}.wav", seed=number)
    return root


@pytest.fixture
def root(recordings, tmp_path) -> Path:
    """A copy for a test to change."""
    return Path(shutil.copytree(recordings, tmp_path / "corpus"))


@pytest.fixture(scope="module")
def computed(recordings, tmp_path_factory) -> tuple[Manifest, Path]:
    """The recordings' shards, which no test changes."""
    folder = tmp_path_factory.mktemp("features") / "shards"
    return here(recordings, folder), folder


def here(root: Path, folder: Path, settings: FrontEnd = SMALL, **more) -> Manifest:
    return precompute(root, clips_in(root), settings, folder, parallel=False, **more)


def job(root: Path, settings: FrontEnd = SMALL) -> ShardJob:
    return ShardJob(root, settings, Path("unused"), None, {})


def spoil(root: Path) -> None:
    for path, data in BAD.items():
        (root / path).write_bytes(data)


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


# What is computed


def test_clips_have_librosa_s_features(recordings, computed):
    manifest, folder = computed
    clips = clips_in(recordings)
    loaded = load([folder / name for name in manifest.shards], clips, SHAPE)
    assert loaded.clips == tuple(clips) and loaded.static.shape == (COUNT, 16, 16)
    for clip, static in list(zip(loaded.clips, loaded.static, strict=True))[::7]:
        samples = sf.read(recordings / clip.path)[0]
        mel = librosa.feature.melspectrogram(
            y=samples, sr=8000, n_fft=256, hop_length=128, n_mels=16, htk=True, norm=None
        )
        raw = np.log(mel + 1e-8)
        # float16 has 11 bits.
        np.testing.assert_allclose(static, (raw - raw.min()) / (raw.max() - raw.min()), rtol=0, atol=2**-12 + 1e-4)


def test_the_manifest_of_a_good_corpus(computed):
    manifest, folder = computed
    assert manifest.front_end == SMALL
    assert manifest.clips == COUNT
    assert manifest.quarantine == {} and manifest.notes == {}
    assert list(manifest.shards) == sorted(path.name for path in folder.iterdir())
    assert re.fullmatch("[0-9a-f]{16}", manifest.data_hash)


def test_notes_say_what_was_done_to_a_clip(root, tmp_path):
    record(root / "audio/003.wav", seed=3, seconds=0.1)
    record(root / "audio/002.wav", seed=2, seconds=0.3)
    notes = here(root, tmp_path / "shards").notes
    assert list(notes.items()) == [
        ("audio/002.wav", "cut to 2000 samples"),
        ("audio/003.wav", "tiled from 800 to 2000 samples"),
    ]


def test_manifest_is_plain_json(root, tmp_path):
    spoil(root)
    record(root / "audio/ünï 1.wav", seed=0, seconds=0.1)
    manifest = here(root, tmp_path / "shards")
    assert manifest.quarantine and "audio/ünï 1.wav" in manifest.notes
    written = json.loads(manifest.to_json())
    assert written["quarantine"] == manifest.quarantine and written["notes"] == manifest.notes
    assert FrontEnd(**written["front_end"]) == SMALL and written["shards"] == list(manifest.shards)


def test_shards_hold_each_clip_once_and_none_is_crowded(recordings):
    clips = clips_in(recordings)
    plan = plan_shards(job(recordings), clips)
    assert Counter(path for paths in plan.values() for path in paths) == Counter(clip.path for clip in clips)
    assert len(plan) == 4  # the power of two from 300 / 128
    assert max(map(len, plan.values())) <= 128
    for paths in plan.values():
        assert paths == sorted(paths)  # the order given


# What is not computed again


def test_a_rerun_computes_nothing(root, tmp_path):
    spoil(root)
    first = here(root, tmp_path / "shards")
    before = stamps(tmp_path / "shards")
    progress = []
    again = here(root, tmp_path / "shards", progress=lambda *counts: progress.append(counts))
    assert again == first
    assert stamps(tmp_path / "shards") == before
    assert progress == []


def test_progress_counts_clips_up_to_all(recordings, tmp_path):
    progress = []
    manifest = here(recordings, tmp_path / "shards", progress=lambda *counts: progress.append(counts))
    sizes = [len(read_shard(tmp_path / "shards" / name, SHAPE)[0]) for name in manifest.shards]
    assert progress[0] == (0, COUNT) and progress[-1] == (COUNT, COUNT)
    assert sorted(after - before for (before, _), (after, _) in pairwise(progress)) == sorted(sizes)
    assert {total for _, total in progress} == {COUNT}


def test_an_interrupted_run_is_resumed_to_the_same_bytes(recordings, computed, tmp_path):
    manifest, folder = computed

    def interrupt(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here(recordings, tmp_path / "shards", progress=interrupt)
    finished = stamps(tmp_path / "shards")
    assert len(finished) == 1
    progress = []
    assert here(recordings, tmp_path / "shards", progress=lambda *counts: progress.append(counts)) == manifest
    assert 0 < progress[0][0] < COUNT
    assert stamps(tmp_path / "shards").items() >= finished.items()
    assert contents(tmp_path / "shards") == contents(folder)


def test_a_lost_shard_alone_is_computed_again(recordings, computed, tmp_path):
    manifest, folder = computed
    copy = Path(shutil.copytree(folder, tmp_path / "shards"))
    (copy / manifest.shards[2]).unlink()
    kept = stamps(copy)
    assert here(recordings, copy) == manifest
    assert stamps(copy).items() >= kept.items()
    assert contents(copy) == contents(folder)


def change(path: Path) -> None:
    record(path, seed=1000)


def grow(path: Path) -> None:
    record(path, seed=0, seconds=0.26)


def spoil_one(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("alter", [change, grow, spoil_one, Path.unlink])
def test_a_changed_file_renames_its_own_shard_and_no_other(root, tmp_path, alter: Callable[[Path], None]):
    first = here(root, tmp_path / "shards")
    before = stamps(tmp_path / "shards")
    alter(root / "audio/042.wav")
    second = here(root, tmp_path / "shards")
    assert len(set(first.shards) - set(second.shards)) == len(set(second.shards) - set(first.shards)) == 1
    assert stamps(tmp_path / "shards").items() >= before.items()
    assert second.data_hash != first.data_hash


def test_an_added_file_renames_its_own_shard_and_no_other(root, tmp_path):
    first = here(root, tmp_path / "shards")
    record(root / "audio/new.wav", seed=1000)
    second = here(root, tmp_path / "shards")
    assert len(set(second.shards) - set(first.shards)) == 1 and second.clips == COUNT + 1


@pytest.mark.parametrize("other", [{"n_mels": 17}, {"scaling": "level"}, {"hop_length": 64}])
def test_other_settings_are_other_shards(recordings, computed, other):
    manifest, _ = computed
    clips = clips_in(recordings)
    settings = FrontEnd(
        **{"sample_rate": 8000, "clip_seconds": 0.25, "n_fft": 256, "hop_length": 128, "n_mels": 16} | other
    )
    assert not set(plan_shards(job(recordings, settings), clips)) & set(manifest.shards)


def test_shards_of_other_libraries_are_computed_again_and_a_node_that_has_others_computes_none(recordings):
    clips, ours = clips_in(recordings), job(recordings)
    ours.require_libraries()
    theirs = replace(ours, libraries={**libraries(), "soxr": "0.1"})
    assert not set(plan_shards(theirs, clips)) & set(plan_shards(ours, clips))
    with pytest.raises(CorpusError, match=rf"has soxr {libraries()['soxr']}, the driver 0.1: install the same"):
        theirs.require_libraries()


# Bad clips


def test_a_bad_clip_is_in_quarantine_and_the_others_survive(root, computed, tmp_path):
    spoil(root)
    manifest = here(root, tmp_path / "shards")
    assert manifest.clips == COUNT - 2
    assert list(manifest.quarantine) == list(BAD)
    assert manifest.quarantine["audio/000.wav"] == "the file is empty"
    assert manifest.quarantine["audio/077.wav"].startswith("not readable as audio (")
    clips = clips_in(root)
    loaded = load([tmp_path / "shards" / name for name in manifest.shards], clips, SHAPE)
    assert [clip.path for clip in loaded.clips] == [clip.path for clip in clips if clip.path not in BAD]
    whole = load([computed[1] / name for name in computed[0].shards], loaded.clips, SHAPE)
    np.testing.assert_array_equal(loaded.static, whole.static)


def test_a_clip_that_is_mended_leaves_quarantine(root, recordings, computed, tmp_path):
    spoil(root)
    here(root, tmp_path / "shards")
    for path in BAD:
        shutil.copyfile(recordings / path, root / path)
    manifest = here(root, tmp_path / "shards")
    assert manifest.quarantine == {} and manifest.clips == COUNT
    assert manifest.data_hash == computed[0].data_hash


def test_no_usable_clip_is_an_error_with_a_reason(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.wav").touch()
    with pytest.raises(CorpusError, match=r"^none of 3 clips can be used; the first, \d\.wav: the file is empty$"):
        here(tmp_path, tmp_path / "shards")


# The data hash


def test_the_hash_is_of_content_not_of_place_or_time(root, computed, tmp_path):
    for path in root.rglob("*.wav"):
        os.utime(path, (1, 1))
    manifest = here(root, tmp_path / "shards")
    assert manifest.data_hash == computed[0].data_hash
    assert manifest.clips == computed[0].clips


def test_the_hash_does_not_depend_on_the_order_of_clips(recordings, computed, tmp_path):
    manifest = precompute(recordings, clips_in(recordings)[::-1], SMALL, tmp_path / "shards", parallel=False)
    assert manifest.data_hash == computed[0].data_hash


def test_the_hash_sees_a_single_bit_where_size_and_time_do_not_change(root, computed, tmp_path):
    path = root / "audio/042.wav"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert here(root, tmp_path / "shards").data_hash != computed[0].data_hash


def test_the_hash_sees_a_renamed_file_and_other_settings(root, recordings, computed, tmp_path):
    (root / "audio/042.wav").rename(root / "audio/420.wav")
    renamed = here(root, tmp_path / "renamed").data_hash
    unscaled = FrontEnd(8000, 0.25, 256, 128, 16, "level")
    assert len({computed[0].data_hash, renamed, here(recordings, tmp_path / "other", unscaled).data_hash}) == 3


# Copies


def copy_of(root: Path, folder: Path, kind, seed: int = 1, **settings) -> np.ndarray:
    manifest = here(root, folder, copy=Copy(kind, Copies(**settings), seed))
    return load([folder / name for name in manifest.shards], clips_in(root), SHAPE).static


@pytest.fixture
def few(tmp_path) -> Path:
    for number in range(6):
        record(tmp_path / f"few/audio/{number}.wav", seed=number)
    return tmp_path / "few"


@pytest.mark.parametrize("kind", ["pitch", "speed", "noise", "mix"])
def test_a_copy_has_every_clip_changed_and_the_same_bytes_again(few, tmp_path, kind):
    originals = here(few, tmp_path / "a")
    static = load([tmp_path / "a" / name for name in originals.shards], clips_in(few), SHAPE).static
    first = copy_of(few, tmp_path / "b", kind)
    assert first.shape == static.shape
    assert all(not np.array_equal(own, other) for own, other in zip(first, static, strict=True))
    copy_of(few, tmp_path / "c", kind)
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
    assert not np.array_equal(first, copy_of(few, tmp_path / "d", kind, seed=2))


def test_a_copy_depends_on_the_settings_of_its_kind_alone(few, tmp_path):
    plain = here(few, tmp_path / "a", copy=Copy("noise", Copies(), 1))
    other = here(few, tmp_path / "b", copy=Copy("noise", Copies(semitones=1, rates=(1, 1)), 1))
    louder = here(few, tmp_path / "c", copy=Copy("noise", Copies(noise=0.1), 1))
    assert plain.shards == other.shards and plain.data_hash == other.data_hash
    assert not {plain.shards, plain.data_hash} & {louder.shards, louder.data_hash}
    assert here(few, tmp_path / "d").data_hash != plain.data_hash


def test_a_clip_is_mixed_with_another_of_its_scene():
    clips = [Clip(f"{scene}/{number}", scene, TRAIN, "") for scene in ("bus", "tram") for number in range(5)]
    clips.append(Clip("park/0", "park", TRAIN, ""))
    partners = Copy("mix", Copies(), 3).partners(clips)
    assert partners.pop("park/0") == "park/0"  # the only one
    assert all(own != other and own.split("/")[0] == other.split("/")[0] for own, other in partners.items())
    assert partners.keys() == {clip.path for clip in clips[:-1]}
    assert Copy("mix", Copies(), 3).partners(clips[::-1]) == partners | {"park/0": "park/0"}
    assert Copy("noise", Copies(), 3).partners(clips) == {}


def test_a_bad_partner_is_named(few, tmp_path):
    (few / "audio/2.wav").write_bytes(b"")
    manifest = here(few, tmp_path / "a", copy=Copy("mix", Copies(), 1))
    partners = Copy("mix", Copies(), 1).partners(clips_in(few))
    expected = {
        path: "audio/2.wav, to be mixed with it: the file is empty"
        for path in partners
        if partners[path] == "audio/2.wav"
    }
    assert manifest.quarantine == expected | {"audio/2.wav": "the file is empty"}


@pytest.mark.parametrize(("seconds", "place"), [(75.0, "here"), (74.9, "on Ray")])  # 300 clips of 0.25 s
def test_few_seconds_of_recordings_are_computed_here(root, tmp_path, monkeypatch, seconds, place):
    asked: list[str] = []

    def compute(name: str):
        return lambda job, missing: (asked.append(name), compute_here(job, missing))[1]

    monkeypatch.setattr("features.precompute.SMALL", seconds)
    monkeypatch.setattr("features.precompute.compute_on_ray", compute("on Ray"))
    monkeypatch.setattr("features.precompute.compute_here", compute("here"))
    for _ in range(2):  # the second time nothing is missing
        precompute(root, clips_in(root), SMALL, tmp_path / "shards")
    assert asked == [place, "here"]


# On Ray


@pytest.mark.integration
@pytest.mark.usefixtures("ray_cluster")
def test_ray_writes_the_same_shards(root, tmp_path, monkeypatch):
    monkeypatch.setattr("features.precompute.SMALL", 0.0)
    (root / "audio/000.wav").write_bytes(b"")
    expected = here(root, tmp_path / "here")
    progress = []
    manifest = precompute(
        root, clips_in(root), SMALL, tmp_path / "there", lambda *counts: progress.append(counts), parallel=True
    )
    assert manifest == expected
    assert manifest.quarantine == {"audio/000.wav": "the file is empty"}
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert progress[0] == (0, COUNT) and progress[-1] == (COUNT, COUNT) and len(progress) == 5
    # A rerun finds them, whoever computed them.
    before = stamps(tmp_path / "here")
    assert precompute(root, clips_in(root), SMALL, tmp_path / "here", parallel=True) == expected
    assert stamps(tmp_path / "here") == before
