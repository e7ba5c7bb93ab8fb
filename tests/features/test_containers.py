"""Every container that libsndfile writes: our samples are its own, or both refuse. What was cut is refused as such."""

import io
import struct
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from features.audio import read
from features.containers import SLACK, TRUNCATED, Samples, pcm24, samples_of
from features.decoding import FORMATS, BadAudio

RATE = 16_000
WRITABLE = [
    (container, subtype, channels)
    for container in sorted(sf.available_formats())
    for subtype in sorted(sf.available_subtypes(container))
    for channels in (1, 2, 3)
    # RAW has no header, and SD2's is a second file, which libsndfile writes into the working directory.
    if container not in ("RAW", "SD2") and sf.check_format(container, subtype)
]
CUT = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"]


def encode(
    container: str, subtype: str | None, channels: int = 1, frames: int = 4000, endian: str | None = None
) -> bytes:
    """Noise. Raises LibsndfileError for what libsndfile does not write."""
    samples = np.clip(np.random.default_rng(frames).normal(0, 0.1, (frames, channels)), -1, 1)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sf.write(buffer, samples, RATE, subtype, endian, container)
    return buffer.getvalue()


def libsndfiles(data: bytes) -> np.ndarray | None:
    """What libsndfile itself decodes, as mono; None where soundfile refuses."""
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            return file.read(file.frames, dtype="float32", always_2d=True).mean(1)
    except (RuntimeError, ValueError):
        return None


def ours(data: bytes, folder: Path, rate: int = RATE) -> np.ndarray | str:
    path = folder / "clip"
    path.write_bytes(data)
    try:
        return read(path, rate).samples
    except BadAudio as error:
        return str(error)


@pytest.mark.parametrize(("container", "subtype", "channels"), WRITABLE)
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_our_samples_are_libsndfiles(tmp_path, container, subtype, channels, endian):
    if not sf.check_format(container, subtype, endian):
        endian = "FILE"
    try:
        data = encode(container, subtype, channels, endian=endian)
    except sf.LibsndfileError:
        return  # a combination that the container cannot hold
    info = sf.info(io.BytesIO(data))  # some containers hold few rates, or none
    expected, found = libsndfiles(data), ours(data, tmp_path, info.samplerate)
    if container not in FORMATS:
        assert found == f"{container} is not read: nothing says whether such a file was cut"
        return
    assert not isinstance(found, str), found
    if expected is None:  # soundfile wants to seek where this cannot be done
        assert len(found) == info.frames
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [(container, subtype) for container, subtype, channels in WRITABLE if container in CUT and channels == 1],
)
def test_what_was_cut_is_refused(tmp_path, container, subtype, fraction):
    try:
        data = encode(container, subtype, frames=RATE)
    except sf.LibsndfileError:
        return
    found = ours(data[: int(fraction * len(data))], tmp_path)
    assert isinstance(found, str), f"{len(found)} samples"
    assert found.startswith(("truncated", "not readable as audio ("))


def wav(bits: int = 24, samples: int = 3001, channels: int = 1, **fields: int) -> bytes:
    """A WAV file of PCM, written by hand. `fields` of its header may be others, such as `data`, the samples' size."""
    align = fields.get("align", bits // 8 * channels)
    words = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), samples * channels)
    body = b"".join(
        int(word).to_bytes(bits // 8, "little", signed=True).ljust(align // channels, b"\0") for word in words
    )
    fmt = struct.pack(
        "<HHIIHH",
        fields.get("tag", 1),
        channels,
        RATE,
        fields.get("second", RATE * align),
        align,
        fields.get("in_header", bits),
    )
    size = fields.get("data", len(body))
    chunks = (
        b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)
    )
    riff = fields.get("riff", len(chunks) + 4)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + chunks


def sizes(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[4:8], "little"), int.from_bytes(data[40:44], "little")


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("placeholder", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000, 0])
@pytest.mark.parametrize("riff", [None, 0, 36, 0x7FFF_FFFF, 0xFFFF_FFFF])  # 36: of a header before any sample
def test_placeholders_of_streaming_writers_are_no_truncation(tmp_path, bits, placeholder, riff):
    if placeholder == 0 and riff is None:
        return  # a file of no samples, with something behind them
    whole = ours(wav(bits), tmp_path)
    fields = {"data": placeholder} | ({} if riff is None else {"riff": riff})
    found = ours(wav(bits, **fields), tmp_path)
    assert not isinstance(found, str), found
    np.testing.assert_array_equal(found[: len(whole)], whole)
    assert len(found) - len(whole) <= 1  # the byte that makes the size even


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize(("name", "excess"), product(["data", "riff"], [1, 2, 8, 44, SLACK]))
def test_a_size_that_is_slightly_too_large_loses_nothing(tmp_path, bits, name, excess):
    whole = wav(bits, samples=3000)
    riff, data = sizes(whole)
    path = tmp_path / "clip"
    path.write_bytes(wav(bits, samples=3000, **{name: (riff if name == "riff" else data) + excess}))
    np.testing.assert_array_equal(read(path, RATE).samples, ours(whole, tmp_path))


def test_other_containers_from_a_stream(tmp_path):
    whole = encode("CAF", "PCM_16")
    place = whole.index(b"data") + 4
    open_ended = ours(whole[:place] + b"\xff" * 8 + whole[place + 8 :], tmp_path)
    np.testing.assert_array_equal(open_ended[:4000], ours(whole, tmp_path))
    whole = encode("AU", "PCM_16")
    np.testing.assert_array_equal(ours(whole[:8] + b"\xff" * 4 + whole[12:], tmp_path), ours(whole, tmp_path))


def test_a_size_that_is_far_too_large_is_no_placeholder(tmp_path):
    assert ours(wav(16, 3000, data=3_000_000_000), tmp_path) == TRUNCATED


@pytest.mark.parametrize("data", [wav(16), wav(24), encode("AIFF", "PCM_16"), encode("FLAC", "PCM_16")])
def test_a_tag_before_or_behind_the_sound_is_none_of_it(tmp_path, data):
    expected = ours(data, tmp_path)
    assert not isinstance(expected, str)
    tag = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)
    np.testing.assert_array_equal(ours(tag + data, tmp_path), expected)
    for behind in (b"TAG" + bytes(125), bytes(1000), b"\n"):
        np.testing.assert_array_equal(ours(data + behind, tmp_path)[: len(expected)], expected)
    assert isinstance(ours(tag + data[: len(data) // 2], tmp_path), str)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_in_several_streams_or_with_a_damaged_page_is_refused(tmp_path, subtype):
    one, long = encode("OGG", subtype, frames=RATE), encode("OGG", subtype, frames=8 * RATE)
    assert ours(one + one, tmp_path) == "several streams one after another in one file"
    place = len(long) // 5
    path = tmp_path / "clip"
    path.write_bytes(long[:place] + bytes([long[place] ^ 0xFF]) + long[place + 1 :])
    for seconds in (3, None):
        with pytest.raises(BadAudio):
            read(path, RATE, seconds)


def test_zeros_behind_the_samples_are_no_chunks(tmp_path):
    """Each eight of them would be one; 16 MB of them took seconds."""
    data = wav(24, 3000)
    np.testing.assert_array_equal(ours(data + bytes(2**22), tmp_path), ours(data, tmp_path))
    filled = data[:4] + struct.pack("<I", len(data) - 8 + 2**22) + data[8:] + bytes(2**22)
    assert pcm24(filled) is not None


@pytest.mark.parametrize("bits", [16, 24])
def test_a_header_that_promises_more_than_that_is_of_a_file_that_was_cut(tmp_path, bits):
    whole = wav(bits, samples=3000)
    assert ours(wav(bits, samples=3000, data=sizes(whole)[1] + SLACK + 1), tmp_path) == TRUNCATED


@pytest.mark.parametrize("bits", [16, 24])
def test_two_chunks_of_samples_are_refused(tmp_path, bits):
    data = wav(bits, samples=3000)
    again = data + data[36:]
    again = again[:4] + struct.pack("<I", len(again) - 8) + again[8:]
    assert ours(again, tmp_path) == "several chunks of samples in one file"


@pytest.mark.parametrize(
    "fields", [{"align": 4}, {"second": 1}, {"riff": 10**6}, {"tag": 3}, {"in_header": 20}, {"data": 2999 * 3 - 1}]
)
def test_the_fast_way_serves_what_it_understands_whole(tmp_path, fields):
    data = wav(24, 3000, **fields)
    assert pcm24(data) is None
    expected, found = libsndfiles(data), ours(data, tmp_path)
    if expected is None:
        assert isinstance(found, str)
    else:
        np.testing.assert_array_equal(found, expected)


@given(
    st.binary(min_size=4, max_size=200), st.sampled_from([b"RIFF\0\0\0\0WAVE", b"FORM\0\0\0\0AIFF", b"caff", b".snd"])
)
def test_damaged_headers_are_placed_or_not_and_raise_nothing_else(rest, magic):
    found = samples_of(magic + rest) if b"data" not in rest and b"SSND" not in rest else None
    assert found is None or isinstance(found, Samples)


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (999, 1), (RATE, 65)])
def test_a_header_that_no_recording_has_is_refused(tmp_path, rate, channels):
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros((100, channels)), rate, format="WAV")
    assert str(ours(buffer.getvalue(), tmp_path)).startswith("its header says ")


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_what_the_clip_does_not_need_is_not_decoded_and_changes_nothing(tmp_path, container, rate):
    """Against the whole recording, resampled and cut; Ogg and MP3 are decoded in blocks of other sizes then."""
    path = tmp_path / "clip"
    path.write_bytes(encode(container, sf.default_subtype(container), frames=5 * RATE))
    np.testing.assert_allclose(read(path, rate, 2).samples, read(path, rate).samples[: 2 * rate], rtol=0, atol=2e-7)


@pytest.fixture
def cases() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip(f"NOT TESTED on inputs that were read wrong: {folder} is not there")
    return folder


def test_four_bytes_a_sample_of_24_bits(cases):
    found, expected = (read(cases / f"pcm24-in-4-bytes{kind}.wav", RATE).samples for kind in ("", ".reference"))
    np.testing.assert_array_equal(found, expected)


def test_decoders_that_cannot_seek_and_a_length_that_nobody_knows(cases):
    assert len(read(cases / "gsm610.wav", RATE).samples) == RATE
    assert len(read(cases / "unknown-length.flac", RATE).samples) == RATE


@pytest.mark.parametrize("name", ["truncated-rf64.wav", "truncated.aif"])
def test_real_cuts(cases, name):
    with pytest.raises(BadAudio, match="^truncated"):
        read(cases / name, RATE, 1)
