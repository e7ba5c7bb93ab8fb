"""Near copies are found, strangers are not: what a code is, and what is done with it."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features import fingerprint as module
from features.corpus import Clip
from features.decoding import decode
from features.fingerprint import ALIKE, LEAST, MEAN, NearCopy, fingerprint, near_copies, near_copies_in, pairs_alike
from features.frontend import static_channel
from features.settings import FrontEnd
from features.store import Shard, write_shard
from tests.features.test_audio import encode

FRONT_END = FrontEnd(clip_seconds=5.0, n_mels=64)
RATE = FRONT_END.sample_rate


def scene(seed: int, seconds: float = 5.0) -> np.ndarray:
    """Noise whose level in each of 40 bands wanders: (sample,) at 44.1 kHz."""
    draw = np.random.default_rng(seed)
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(draw.normal(0, 1, count))
    edges = np.linspace(0, len(spectrum), 41).astype(int)
    sound = np.zeros(count)
    for low, high in pairwise(edges):
        part = np.zeros_like(spectrum)
        part[low:high] = spectrum[low:high]
        level = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, 12), draw.normal(0, 1, 12))
        sound += np.fft.irfft(part, count) * np.exp(level)
    return (0.05 * sound).astype(np.float32)


def static(samples: np.ndarray) -> np.ndarray:
    fitted = np.resize(samples, FRONT_END.samples).astype(np.float32)
    return static_channel(torch.from_numpy(fitted), FRONT_END).half().numpy()


def codec(samples: np.ndarray, container: str, subtype: str) -> np.ndarray:
    return decode(encode(samples[:, None], container, subtype, RATE)).samples[:, 0]


SAME = {
    "Ogg Vorbis": lambda x: codec(x, "OGG", "VORBIS"),
    "MP3": lambda x: codec(x, "MP3", "MPEG_LAYER_III"),
    "8 bits": lambda x: codec(x, "WAV", "PCM_U8"),
    "quieter by 12 dB": lambda x: x / 4,
    "turned round": lambda x: -x,
    "trimmed by half a second": lambda x: x[RATE // 2 :],
    "trimmed by 1.31 s": lambda x: x[round(1.31 * RATE) :],
    "trimmed, Ogg Vorbis": lambda x: codec(x[round(0.77 * RATE) :], "OGG", "VORBIS"),
}


def clips(*splits: str) -> list[Clip]:
    return [Clip(f"{row}.wav", "bus", split, str(row)) for row, split in enumerate(splits)]


@pytest.mark.parametrize("change", SAME)
def test_a_changed_copy_is_found_and_a_stranger_is_not(change):
    original = scene(1)
    prints = [fingerprint(static(sound)) for sound in (original, scene(2), SAME[change](original), scene(3))]
    table = clips("train", "train", "test", "test")
    found = near_copies({clip.path: code for clip, code in zip(table, prints, strict=True)}, table)
    assert [(pair.first, pair.first_split, pair.second, pair.second_split) for pair in found] == [
        ("0.wav", "train", "2.wav", "test")
    ]
    assert 0 <= found[0].different < ALIKE


def test_a_code_is_the_signs_of_how_neighbouring_bands_differences_change():
    """Worked by hand: 36 mel bins, of which the lower 70 % (25) are used, one a band; a step after 16 frames."""
    before, after = [0.0, 1.0, 0.0, 5.0] + [0.0] * 32, [3.0, 1.0, 2.0, 5.5] + [0.0] * 21 + [9.0] * 11
    channel = np.array([before] * MEAN + [after] * MEAN, np.float16).T
    # Differences of neighbours: -1, 1, -5, 5, 0, ... before and 2, -1, -3.5, 5.5, 0, ... after.
    assert fingerprint(channel).tolist() == [0b1101]
    assert fingerprint(channel[:, ::-1].copy()).tolist() == [0b0010]


def test_silence_is_zero_and_too_short_a_clip_has_no_code():
    assert fingerprint(np.zeros((64, 60), np.float16)).tolist() == [0] * (60 - 2 * MEAN + 1)
    assert fingerprint(np.ones((64, 2 * MEAN), np.float16)).tolist() == [0]
    assert fingerprint(np.zeros((64, 2 * MEAN - 1), np.float16)).size == 0
    assert fingerprint(np.ones((35, 100), np.float16)).size == 0 and fingerprint(np.ones((36, 100), np.float16)).size


def test_codes_do_not_depend_on_level_or_gain():
    channel = static(scene(4)).astype(np.float64)
    expected = fingerprint(channel.astype(np.float16))
    changed = fingerprint((0.5 * channel + 0.25).astype(np.float16))
    assert np.bitwise_count(expected ^ changed).mean() / module.BITS < 0.02  # half precision's rounding


@given(st.integers(0, 2**32 - 1), st.integers(-40, 40), st.integers(0, 6))
def test_the_share_of_different_bits_at_their_lag(seed, lag, flipped):
    """Random codes, shifted, with so many of 24 bits turned in each."""
    draw = np.random.default_rng(seed)
    long = draw.integers(1, 2**24, 300, dtype=np.uint32)
    one, other = long[50:250], long[50 + lag : 250 + lag].copy()
    other[::2] ^= np.uint32((1 << flipped) - 1)  # half of the codes stay as they are: those are looked up
    found = pairs_alike(np.stack([one, other]), ["train", "test"])
    shared = 200 - abs(lag)
    turned = len(range(max(-lag, 0) + (max(-lag, 0) % 2), min(200, 200 - lag), 2))
    assert list(found) == [(0, 1)]
    assert found[0, 1] == pytest.approx(turned * flipped / (24 * shared), abs=1e-9)


def test_one_split_shares_nothing_with_itself_and_every_pair_of_splits_is_compared():
    codes = np.random.default_rng(0).integers(1, 2**24, 100, dtype=np.uint32)
    for splits in product(("train", "validation", "test"), repeat=2):
        found = pairs_alike(np.stack([codes, codes]), splits)
        assert found == ({(0, 1): 0.0} if splits[0] != splits[1] else {})


def test_too_little_in_common_tells_nothing():
    draw = np.random.default_rng(0)
    for length, alike in ((LEAST, True), (LEAST - 1, False)):
        codes = draw.integers(1, 2**24, length, dtype=np.uint32)
        assert bool(pairs_alike(np.stack([codes, codes]), ["train", "test"])) == alike
        one, other = draw.integers(1, 2**24, (2, 150), dtype=np.uint32)
        other[150 - length :] = one[:length]
        assert bool(pairs_alike(np.stack([one, other]), ["train", "test"])) == alike


def test_silence_is_no_copy_of_silence():
    assert pairs_alike(np.zeros((2, 100), np.uint32), ["train", "test"]) == {}


def test_what_every_clip_has_tells_nothing():
    """A code that is common to more than COMMON clips, as of a hum, is not looked up."""
    draw = np.random.default_rng(0)
    prints = draw.integers(1, 2**24, (module.COMMON + 1, 100), dtype=np.uint32)
    prints[:, 50] = 77
    splits = ["train", "test"] * (len(prints) // 2 + 1)
    assert list(module.candidates(prints, np.arange(len(prints)) % 2)) == []
    prints[0, 50] = 78
    assert sum(len(first) for first, _, _ in module.candidates(prints, np.arange(len(prints)) % 2)) == 64
    assert pairs_alike(prints, splits[: len(prints)]) == {}


def test_clips_in_quarantine_and_of_no_split_are_left_out(tmp_path):
    sounds = [static(scene(1)), static(scene(1))]
    for row, channel in enumerate(sounds):
        write_shard(tmp_path / f"{row}.parquet", Shard([f"{row}.wav"], ["d"], [""], channel[None], {}))
    shards = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    shape = sounds[0].shape
    expected = [NearCopy("0.wav", "train", "1.wav", "test", 0.0)]
    assert near_copies_in(shards, shape, clips("train", "test", "test")) == expected
    assert near_copies_in(shards, shape, clips("train", "")) == []
    assert near_copies_in(shards[:1], shape, clips("train", "test")) == []
