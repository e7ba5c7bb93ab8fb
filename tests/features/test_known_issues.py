"""Faults that were found once, a test each."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from features.audio import BadAudio, read
from features.corpus import Clip, CorpusError
from features.cuts import cut_validation, rank
from features.precompute import precompute
from features.readers import read_manifest, read_tau
from features.settings import FrontEnd
from features.store import Shard, write_shard
from features.taxonomy import Taxonomy
from tests.features.reading import load

SMALL = FrontEnd(sample_rate=8000, clip_seconds=0.25, n_fft=256, hop_length=128, n_mels=16)
TAXONOMY = Taxonomy.from_groups({"g": ["bus", "tram"]})


def encoded(samples: np.ndarray, kind: str = "WAV", subtype: str | None = None, rate: int = 44_100) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples)


def refusal(folder: Path, data: bytes, seconds: float | None = None) -> str:
    (folder / "x").write_bytes(data)
    with pytest.raises(BadAudio) as caught:
        read(folder / "x", 44_100, seconds)
    return str(caught.value)


def test_a_reason_is_the_same_in_every_process(tmp_path):
    """libsndfile's message held the address of the buffer, so shards of bad files differed from run to run."""
    assert "object at 0x" not in refusal(tmp_path, b"no audio" * 99)


def test_a_header_that_promises_more_than_memory_holds(tmp_path):
    data = bytearray(encoded(noise(3000), "FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    refusal(tmp_path, bytes(data))


@pytest.mark.parametrize("share", [0.6, 0.9, 0.99])
def test_an_ogg_that_was_cut_short_is_not_tiled_as_if_it_were_whole(tmp_path, share):
    data = encoded(noise(2 * 44_100), "OGG", "VORBIS")
    assert "truncated" in refusal(tmp_path, data[: int(share * len(data))], seconds=2)


def test_real_oggs_are_whole(shared_audio):
    files = sorted((shared_audio / "esc10").glob("*/*.ogg"))[::12]
    assert len(files) >= 19
    for file in files:
        assert len(read(file, 44_100).samples) > 200_000


def test_nothing_left_after_resampling(tmp_path):
    assert "no samples" in refusal(tmp_path, encoded(noise(1), rate=192_000), seconds=1)


@pytest.mark.parametrize("channels", [1, 2])
def test_absurd_levels(tmp_path, channels):
    data = encoded(np.full((2000, channels), 1e30), "WAV", "FLOAT", 8000)
    assert refusal(tmp_path, data) == "samples far beyond full scale"


def manifest(folder: Path, text: str) -> list[Clip]:
    for number in range(4):
        (folder / f"{number}.wav").touch()
    (folder / "m.csv").write_text(text)
    return read_manifest(folder, folder / "m.csv", TAXONOMY)


def test_one_file_under_two_spellings_is_one_clip(tmp_path):
    with pytest.raises(CorpusError, match=r"0\.wav is listed more than once"):
        manifest(tmp_path, "path,scene,split\n0.wav,bus,train\n./0.wav,bus,test\n")


def test_location_and_group_together_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="has both location and group"):
        manifest(tmp_path, "path,scene,split,location,group\n0.wav,bus,train,a,g\n1.wav,bus,test,b,g\n")


def test_a_field_without_end(tmp_path):
    with pytest.raises(CorpusError, match="cannot be read: field larger"):
        manifest(tmp_path, "path,scene,split\n" + "x" * 140_000 + ",bus,train\n")


def test_locations_that_scenes_share_leave_every_scene_some_training():
    x, y, z = sorted((f"L{number}" for number in range(20)), key=lambda name: rank(name, 0))[:3]
    places = {"a": (x, y), "b": (y, z), "c": (x, z)}
    clips = [Clip(f"{scene}{place}", scene, "train", place) for scene, both in places.items() for place in both]
    cut = cut_validation(clips, 0.2, 0)
    assert {clip.scene for clip in cut if clip.split == "train"} == {"a", "b", "c"}


def test_a_label_that_differs_between_split_and_meta(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "evaluation_setup").mkdir()
    for name in "ab":
        (tmp_path / f"audio/{name}.wav").touch()
    header = "filename\tscene_label"
    (tmp_path / "meta.csv").write_text(f"{header}\tidentifier\naudio/a.wav\tbus\tx-1\naudio/b.wav\tbus\tx-2\n")
    (tmp_path / "evaluation_setup/fold1_train.csv").write_text(f"{header}\naudio/a.wav\ttram\n")
    (tmp_path / "evaluation_setup/fold1_evaluate.csv").write_text(f"{header}\naudio/b.wav\tbus\n")
    with pytest.raises(CorpusError, match="'tram' there, 'bus' in meta"):
        read_tau(tmp_path, TAXONOMY)


def test_a_path_in_two_shards_does_not_shift_the_rows(tmp_path):
    for name, paths in (("1", ["p", "q"]), ("2", ["q", "r"])):
        static = np.stack([np.full((2, 3), ord(path), np.float16) for path in paths])
        write_shard(tmp_path / name, Shard(paths, paths, paths, static, {}))
    features = load([tmp_path / "1", tmp_path / "2"], [Clip(path, "bus", "train", path) for path in "pqr"], (2, 3))
    assert features.static[:, 0, 0].tolist() == [ord(path) for path in "pqr"]


def test_no_clips_at_all(tmp_path):
    with pytest.raises(CorpusError, match="no clips"):
        precompute(tmp_path, [], SMALL, tmp_path / "out", parallel=False)


def test_a_file_that_vanished_after_the_check_is_in_quarantine(tmp_path):
    sf.write(tmp_path / "a.wav", noise(2000), 8000)
    clips = [Clip(path, "bus", "train", path) for path in ("a.wav", "gone.wav")]
    done = precompute(tmp_path, clips, SMALL, tmp_path / "out", parallel=False)
    assert (done.clips, done.quarantine) == (1, {"gone.wav": "No such file or directory"})


@pytest.mark.integration
@pytest.mark.usefixtures("ray_cluster")
def test_relative_paths_reach_rays_workers(tmp_path, monkeypatch):
    sf.write(tmp_path / "a.wav", noise(2000), 8000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("features.precompute.SMALL", 0.0)
    assert precompute(Path(), [Clip("a.wav", "bus", "train", "a")], SMALL, Path("out")).clips == 1


def test_an_odd_window_is_refused():
    with pytest.raises(ValueError, match="n_fft must be even"):
        FrontEnd(n_fft=2047)
