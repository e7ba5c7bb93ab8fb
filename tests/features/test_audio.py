"""Decoding, mixing, resampling and fitting; and every bad file as one BadAudio."""

import csv
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.audio import fit_length, read
from features.containers import EXTENSIBLE, PCM_GUID
from features.decoding import BadAudio, decode, decode_pcm24

RATE = 44_100
LOSSLESS = [("WAV", "PCM_16", 16), ("WAV", "PCM_24", 24), ("WAV", "PCM_32", 25), ("WAV", "FLOAT", 25),
            ("WAV", "DOUBLE", 25), ("FLAC", "PCM_16", 16), ("FLAC", "PCM_24", 24)]  # fmt: skip
LOSSY = [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]


def tone(frequency: float, seconds: float = 1, rate: int = RATE, level: float = 0.5) -> NDArray[np.float64]:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def noise(count: int, level: float = 0.1, seed: int = 0) -> NDArray[np.float64]:
    return np.clip(np.random.default_rng(seed).normal(0, level, count), -1, 1)


def encode(samples: NDArray, container: str = "WAV", subtype: str | None = "PCM_16", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.fixture
def file(tmp_path):
    def put(data: bytes) -> Path:
        path = tmp_path / "clip"  # no suffix: the content decides
        path.write_bytes(data)
        return path

    return put


def refusal(path: Path, rate: int = RATE, seconds: float | None = None) -> str:
    """The reason that a bad file is given; one line, and without the path, which the quarantine table has."""
    with pytest.raises(BadAudio) as caught:
        read(path, rate, seconds)
    reason = str(caught.value)
    assert reason and "\n" not in reason and str(path) not in reason
    return reason


def level_at(samples: NDArray, frequency: float, rate: int = RATE) -> tuple[float, float]:
    """Least squares with one sinusoid, away from the ends: its amplitude, and the root mean square of the rest."""
    inner = slice(len(samples) // 10, -len(samples) // 10)
    angle = 2 * np.pi * frequency * np.arange(len(samples))[inner] / rate
    basis = np.stack([np.sin(angle), np.cos(angle)], 1)
    weights = np.linalg.lstsq(basis, samples[inner].astype(np.float64), rcond=None)[0]
    rest = samples[inner] - basis @ weights
    return float(np.hypot(*weights)), float(np.sqrt(np.mean(rest**2)))


# Good files


@pytest.mark.parametrize(("container", "subtype", "bits"), LOSSLESS)
def test_lossless_formats_give_the_samples_to_the_last_bit_but_one(file, container, subtype, bits):
    expected = noise(RATE // 4)
    recording = read(file(encode(expected, container, subtype)), RATE)
    assert recording.samples.dtype == np.float32 and recording.samples.shape == expected.shape
    assert recording.notes == ()
    np.testing.assert_allclose(recording.samples, expected, rtol=0, atol=2.0 ** (1 - bits))


@pytest.mark.parametrize(("container", "subtype"), LOSSY)
def test_lossy_formats_give_the_tone_at_its_level(file, container, subtype):
    recording = read(file(encode(tone(1000, 2), container, subtype)), RATE)
    assert len(recording.samples) == 2 * RATE and recording.notes == ()
    amplitude, rest = level_at(recording.samples, 1000)
    assert amplitude == pytest.approx(0.5, rel=0.01)
    assert rest < 0.01


def test_full_scale_is_one_and_float_may_exceed_it(file):
    extremes = np.array([-(2**15), 2**15 - 1, 0, 2**14], np.int16)
    assert read(file(encode(extremes)), RATE).samples.tolist() == [-1, 1 - 2**-15, 0, 0.5]
    assert read(file(encode(np.array([2.5, -3.0]), subtype="FLOAT")), RATE).samples.tolist() == [2.5, -3]


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_24"), ("FLAC", "PCM_16")])
def test_stereo_is_the_mean_of_its_channels(file, container, subtype):
    left, right = noise(5000, seed=1), noise(5000, seed=2)
    recording = read(file(encode(np.stack([left, right], 1), container, subtype)), RATE)
    assert recording.samples.shape == (5000,)
    np.testing.assert_allclose(recording.samples, (left + right) / 2, rtol=0, atol=2**-14)
    assert recording.notes == ("mixed down from 2 channels",)


def test_channels_in_opposite_phase_cancel(file):
    one = noise(1000)
    assert not read(file(encode(np.stack([one, -one], 1), subtype="FLOAT")), RATE).samples.any()


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 48_000, 96_000])
@pytest.mark.parametrize("target", [16_000, RATE])
def test_another_rate_keeps_a_tone_s_frequency_level_and_length(file, rate, target):
    recording = read(file(encode(tone(1234, 1, rate), subtype="FLOAT", rate=rate)), target)
    assert recording.notes == (() if rate == target else (f"resampled from {rate} Hz",))
    assert recording.samples.dtype == np.float32
    assert abs(len(recording.samples) - target) <= 1
    amplitude, rest = level_at(recording.samples, 1234, target)
    assert amplitude == pytest.approx(0.5, rel=1e-4)
    assert rest < 1e-4


def test_what_the_lower_rate_cannot_hold_is_filtered_not_folded(file):
    """7 kHz at 8 kHz would come out as 1 kHz."""
    recording = read(file(encode(tone(7000, 1, 48_000), subtype="FLOAT", rate=48_000)), 8000)
    assert np.abs(recording.samples[400:-400]).max() < 1e-4


def test_mixing_comes_before_resampling_and_notes_are_in_that_order(file):
    stereo = np.stack([tone(1000, 1, 48_000), 0 * tone(1000, 1, 48_000)], 1)
    recording = read(file(encode(stereo, "OGG", "VORBIS", 48_000)), RATE, 0.5)
    assert recording.notes == (
        "mixed down from 2 channels",
        "resampled from 48000 Hz",
        "cut to 22050 samples",
    )
    assert level_at(recording.samples, 1000)[0] == pytest.approx(0.25, rel=0.02)


# Length


def test_a_shorter_clip_is_tiled_with_a_note(file):
    expected = noise(30_000)
    recording = read(file(encode(expected, subtype="FLOAT")), RATE, 2)
    assert recording.notes == ("tiled from 30000 to 88200 samples",)
    np.testing.assert_array_equal(
        recording.samples, np.concatenate([expected, expected, expected[:28_200]]).astype(np.float32)
    )


def test_a_longer_clip_is_cut_at_its_end_with_a_note(file):
    expected = noise(3 * RATE)
    recording = read(file(encode(expected, subtype="FLOAT")), RATE, 2)
    assert recording.notes == ("cut to 88200 samples",)
    np.testing.assert_array_equal(recording.samples, expected[:88_200].astype(np.float32))


@pytest.mark.parametrize("have", [44_056, 44_099, 44_100, 44_101, 44_144])
def test_a_codec_s_padding_is_fitted_without_a_note(file, have):
    recording = read(file(encode(noise(have))), RATE, 1)
    assert len(recording.samples) == RATE and recording.notes == ()


@pytest.mark.parametrize(("have", "note"), [(44_055, "tiled from 44055 to"), (44_145, "cut to")])
def test_more_than_a_thousandth_is_worth_a_note(file, have, note):
    recording = read(file(encode(noise(have))), RATE, 1)
    assert len(recording.samples) == RATE and recording.notes == (f"{note} 44100 samples",)


def test_without_seconds_the_length_is_the_file_s(file):
    assert len(read(file(encode(noise(12_345))), RATE).samples) == 12_345


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_fit_length_repeats_or_cuts_and_says_so(have, length):
    notes: list[str] = []
    fitted = fit_length(np.arange(have, dtype=np.float32), length, notes)
    np.testing.assert_array_equal(fitted, [number % have for number in range(length)])
    assert fitted.dtype == np.float32
    if abs(have - length) <= length / 1000:
        assert notes == []
    else:
        assert notes == [f"tiled from {have} to {length} samples" if have < length else f"cut to {length} samples"]


# The digest


def test_the_digest_is_of_the_file_s_bytes(file, tmp_path):
    data = encode(noise(1000))
    path = file(data)
    digest = read(path, RATE).digest
    assert len(digest) == 32
    os.utime(path, (1, 1))
    assert read(path.rename(tmp_path / "other.wav"), 8000, 3).digest == digest
    assert read(file(data[:-1] + bytes([data[-1] ^ 1])), RATE).digest != digest
    assert read(file(encode(noise(1000), "FLAC")), RATE).digest != digest


# 24-bit PCM


@settings(deadline=None)
@given(
    frames=st.integers(1, 3000),
    channels=st.sampled_from([1, 2, 5]),
    container=st.sampled_from(["WAV", "WAVEX"]),
    seed=st.integers(0, 99),
)
def test_24_bit_pcm_is_decoded_as_libsndfile_does(frames, channels, container, seed):
    words = np.random.default_rng(seed).integers(-(2**23), 2**23, (frames, channels), endpoint=False)
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", 32_000, channels, "PCM_24", format=container) as out:
        out.title = "a chunk before the samples"
        out.write((words << 8).astype(np.int32))
    data = buffer.getvalue()
    pcm = decode_pcm24(data)
    assert pcm is not None and pcm.rate == 32_000
    np.testing.assert_array_equal(pcm.samples, words / 2**23)
    np.testing.assert_array_equal(pcm.samples, decode(data).samples)


@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("W64", "PCM_24")]
)
def test_other_formats_are_left_to_libsndfile(container, subtype):
    assert decode_pcm24(encode(noise(100), container, subtype)) is None


def test_a_chunk_that_ends_beyond_the_file_is_libsndfile_s_to_judge(file):
    data = bytearray(encode(noise(100)))
    data[17] = 1  # of the size of "fmt "
    assert decode_pcm24(bytes(data)) is None
    refusal(file(bytes(data)))


def test_a_header_without_a_rate_is_left_to_libsndfile(file):
    data = bytearray(encode(noise(100), "WAV", "PCM_24"))
    data[24:28] = bytes(4)
    assert decode_pcm24(bytes(data)) is None
    refusal(file(bytes(data)))


def test_the_same_sound_in_another_container_has_another_digest(file):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 1000, np.int16)
    wav, flac = (read(file(encode(samples, kind)), RATE) for kind in ("WAV", "FLAC"))
    np.testing.assert_array_equal(wav.samples, flac.samples)
    assert wav.digest != flac.digest


# Bad files


def test_what_may_have_no_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/zero")):
        with pytest.raises(BadAudio, match="no file, but a pipe or a device"):
            read(path, 16000)


def test_a_file_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "none.wav") == "No such file or directory"


def test_a_folder_is_no_file(tmp_path):
    assert refusal(tmp_path) == "Is a directory"


def test_a_file_of_no_bytes(file):
    assert refusal(file(b"")) == "the file is empty"


@pytest.mark.parametrize("data", [b"\0", b"RIFF", b"hello, world\n" * 500, b"\x89PNG\r\n\x1a\n" + bytes(999)])
def test_a_file_that_is_no_audio(file, data):
    assert refusal(file(data)).startswith("not readable as audio (")


def test_a_header_without_samples(file):
    assert refusal(file(encode(np.zeros(0))), seconds=1) == "no samples"


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.99])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("MP3", None)],
)
def test_a_truncated_file(file, container, subtype, fraction):
    data = encode(noise(RATE), container, subtype)
    reason = refusal(file(data[: int(fraction * len(data))]), seconds=1)
    assert reason.startswith(("truncated", "not readable as audio ("))
    if container == "WAV" and fraction > 0.02:
        assert reason == "truncated: the header promises more samples than the file has"


@pytest.mark.parametrize("size", [27, 100, 4000])
def test_an_ogg_that_ends_in_its_headers(file, size):
    assert refusal(file(encode(noise(RATE), "OGG", "VORBIS")[:size])).startswith(
        ("not readable as audio (", "truncated: the last page is missing")
    )


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF - 8])
def test_a_wav_from_a_stream_whose_length_was_never_filled_in_is_whole(file, length):
    """Recorders that write to a pipe leave 0 or the largest number in the header."""
    data = bytearray(encode(noise(1000)))
    start = data.index(b"data")
    data[4:8] = (length + 8 if length else 0).to_bytes(4, "little")
    data[start + 4 : start + 8] = (0xFFFFFFFF).to_bytes(4, "little")
    assert len(read(file(bytes(data)), RATE).samples) == 1000


def test_a_wav_with_more_behind_it_is_whole(file):
    """Editors append their own chunks, and not all of them update the length."""
    data = encode(noise(1000)) + b"LIST\x04\0\0\0INFO"
    assert len(read(file(data), RATE).samples) == 1000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_sample_that_is_no_number(file, value, channels):
    samples = np.tile(noise(1000)[:, None], channels)
    samples[123, -1] = value
    assert refusal(file(encode(samples, subtype="FLOAT")), seconds=1) == "NaN or infinite samples"


ORIGINALS = {
    (container, subtype): encode(noise(3000), container, subtype)
    for container, subtype in [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("OGG", "VORBIS")]
}


@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(ORIGINALS)), st.data())
def test_damage_anywhere_is_read_or_refused_and_nothing_else(file, kind, data):
    damaged = bytearray(ORIGINALS[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        # Mostly in the headers, where it hurts.
        position = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(damaged) - 1)))
        damaged[position] = data.draw(st.integers(0, 255))
    try:
        samples = read(file(bytes(damaged)), RATE, 0.1).samples
    except BadAudio:
        return
    assert samples.shape == (4410,) and samples.dtype == np.float32 and np.isfinite(samples).all()


# Real recordings


def listed(shared_audio: Path) -> list[dict[str, str]]:
    with (shared_audio / "MANIFEST.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_real_recordings_have_the_length_and_level_that_their_manifest_lists(shared_audio):
    """Originals of every format and rate, and cuts of quiet scenes."""
    rows = [row for row in listed(shared_audio) if row["file"].startswith(("originals/", "scenes10s/p"))]
    assert len(rows) >= 10
    for row in rows:
        recording = read(shared_audio / row["file"], RATE)
        samples = recording.samples.astype(np.float64)
        assert len(samples) / RATE == pytest.approx(float(row["duration_s"]), abs=0.002), row["file"]
        level = 10 * np.log10(np.mean(samples**2))
        # Of the mean of the channels, at the file's own rate.
        assert level == pytest.approx(float(row["rms_dbfs"]), abs=0.3), row["file"]
        assert (f"resampled from {row['sample_rate']} Hz" in recording.notes) == (row["sample_rate"] != str(RATE))
        assert ("mixed down from 2 channels" in recording.notes) == (row["channels"] == "2")


def test_every_ten_second_scene_is_usable(shared_audio):
    paths = sorted((shared_audio / "scenes10s").rglob("*.flac"))[::5]
    assert len(paths) >= 10
    for path in paths:
        recording = read(path, RATE, 10)
        assert recording.samples.shape == (441_000,) and np.isfinite(recording.samples).all()


def flac(seconds: int) -> bytes:
    rate = 8000
    sound = np.sin(np.arange(seconds * rate) ** 1.3 / 50).astype(np.float32) / 2
    buffer = io.BytesIO()
    sf.write(buffer, sound, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


@pytest.mark.parametrize("share", [0.4, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("seconds", [1.0, None])
def test_a_cut_flac_is_refused_also_where_its_beginning_is_enough(share, seconds):
    whole = flac(20)
    assert len(decode(whole, seconds).samples) >= (8000 if seconds else 160_000)
    with pytest.raises(BadAudio, match="truncated: the header promises more samples"):
        decode(whole[: int(share * len(whole))], seconds)


@pytest.mark.parametrize(
    ("bits", "size", "reason"), [(24, 3, None), (32, 4, None), (24, 4, "frames of 8 bytes for 2 samples of 24 bits")]
)
def test_an_extensible_header_whose_samples_do_not_fill_their_frames_is_refused(tmp_path, bits, size, reason):
    """libsndfile reads the third as noise."""
    content = bytes(size * 2 * 8000)
    form = struct.pack("<HHIIHHHHI", EXTENSIBLE, 2, 8000, 8000 * 2 * size, 2 * size, bits, 22, 24, 3) + PCM_GUID
    body = b"WAVEfmt " + struct.pack("<I", 40) + form + b"data" + struct.pack("<I", len(content)) + content
    file = tmp_path / "x.wav"
    file.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    if reason is None:
        assert len(read(file, 8000).samples) == 8000
    else:
        with pytest.raises(BadAudio, match=reason):
            read(file, 8000)
