"""MPEG audio has as many samples as its frames hold, whatever a header or a decoder's estimate says."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from features.audio import BadAudio, read
from features.containers import TRUNCATED
from features.mpeg import Stream, frame_at, stream_of, with_length

RATES = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
DELAY = 529  # samples that a decoder takes off at the start (LAME's documentation)


def mp3(rate: int = 16_000, channels: int = 1, mode: str = "VARIABLE", seconds: float = 2) -> bytes:
    """Noise, quiet at first, so that the bit rate varies."""
    samples = np.random.default_rng(rate).normal(0, 0.1, (round(seconds * rate), channels))
    samples[: len(samples) // 2] /= 1000
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format="MP3", bitrate_mode=mode)
    return buffer.getvalue()


def counted(data: bytes) -> Stream:
    stream = stream_of(data)
    assert stream is not None
    return stream


def bare(data: bytes) -> bytes:
    """Without its first frame, which holds the Xing header."""
    return data[counted(data).first.end :]


@pytest.mark.parametrize(("rate", "channels", "mode"), product(RATES, [1, 2], ["VARIABLE", "CONSTANT", "AVERAGE"]))
def test_without_a_header_it_is_read_to_its_end(tmp_path, rate, channels, mode):
    whole = mp3(rate, channels, mode)
    stream = counted(whole)
    assert stream.said == stream.count and not stream.is_cut and not stream.has_gap
    path = tmp_path / "clip"
    path.write_bytes(whole)
    expected = read(path, rate).samples
    assert len(expected) == 2 * rate
    path.write_bytes(bare(whole))
    found = read(path, rate).samples
    assert len(found) == stream.count * stream.first.samples - DELAY
    # What the header has a decoder leave out is at the start, then: the encoder's delay of 576 samples.
    assert np.corrcoef(found[576 : 576 + len(expected)][2000:], expected[2000:])[0, 1] > 0.99


def test_frames_are_counted_by_hand():
    """MPEG-1 layer III at 128 kbit/s and 44.1 kHz: 144 x 128,000 / 44,100 = 417.96 bytes, one more where padded."""
    header = bytes.fromhex("fffb9000")
    frame = frame_at(header, 0)
    assert frame is not None
    assert (frame.size, frame.samples, frame.rate, frame.is_mono) == (417, 1152, 44_100, False)
    padded, mono = frame_at(bytes.fromhex("fffb9200"), 0), frame_at(bytes.fromhex("fffb90c0"), 0)
    assert padded is not None and padded.size == 418
    assert mono is not None and mono.is_mono and mono.tag == 21
    layer1 = frame_at(bytes.fromhex("ffff9000"), 0)  # 288 kbit/s: (12 x 288,000 / 44,100) = 78 slots of 4 bytes
    assert layer1 is not None and (layer1.layer, layer1.size, layer1.samples) == (1, 312, 384)
    for refused in ("fffbf000", "fffb0000", "fffb9c00", "ffeb9000", "fff99000", "00000000", "fffb"):
        assert frame_at(bytes.fromhex(refused), 0) is None, refused


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"ID3\x04\0\0\0\0\x01\x00" + bytes(128), b""),
        (b"ID3\x04\0\0\0\0\x00\x10" + b"\xff\xfb\x90\x00" * 4, b""),
        (b"", b"TAG" + bytes(125)),
        (b"", b"APETAGEX" + b"\xff" * 100),
    ],
)
def test_tags_are_no_frames(tmp_path, before, behind):
    whole, path = mp3(), tmp_path / "clip"
    path.write_bytes(whole)
    expected = read(path, 16_000).samples
    path.write_bytes(before + whole + behind)
    np.testing.assert_array_equal(read(path, 16_000).samples, expected)


@pytest.mark.parametrize("header", [True, False])
def test_a_last_frame_that_is_not_whole_is_of_a_file_that_was_cut(tmp_path, header):
    whole = mp3() if header else bare(mp3())
    path = tmp_path / "clip"
    for end in (len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:end])
        with pytest.raises(BadAudio, match=TRUNCATED):
            read(path, 16_000, 1)


def test_whole_frames_of_a_file_that_says_more_were_cut(tmp_path):
    whole = mp3()
    frame = counted(whole).first
    for _ in range(20):
        following = frame_at(whole, frame.end)
        assert following is not None
        frame = following
    path = tmp_path / "clip"
    path.write_bytes(whole[: frame.end])
    with pytest.raises(BadAudio, match=TRUNCATED):
        read(path, 16_000, 1)


def test_frames_that_cannot_be_read_in_the_middle_are_refused(tmp_path):
    whole = mp3()
    path = tmp_path / "clip"
    path.write_bytes(whole[:1500] + bytes(700) + whole[2200:])
    with pytest.raises(BadAudio, match="damaged"):
        read(path, 16_000, 1)


def test_a_header_that_counts_itself_is_no_truncation(tmp_path):
    whole, path = mp3(), tmp_path / "clip"
    path.write_bytes(whole)
    expected = read(path, 16_000).samples
    place = whole.index(b"Xing") + 8
    one_more = counted(whole).count + 1
    path.write_bytes(whole[:place] + one_more.to_bytes(4, "big") + whole[place + 4 :])
    np.testing.assert_array_equal(read(path, 16_000).samples, expected)


def test_a_header_that_says_too_little_is_put_right():
    whole = mp3()
    stream = counted(whole)
    place = whole.index(b"Xing") + 8
    few = whole[:place] + (3).to_bytes(4, "big") + whole[place + 4 :]
    assert with_length(few, counted(few)) == whole
    assert with_length(whole, stream) == whole


def test_what_was_read_by_a_fifth():
    folder = Path(__file__).parents[3] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip(f"NOT TESTED on inputs that were read wrong: {folder} is not there")
    found, expected = (read(folder / f"vbr-without-xing{kind}.mp3", 16_000).samples for kind in ("", ".reference"))
    assert np.corrcoef(found[576 : 576 + 15_000], expected[:15_000])[0, 1] > 0.99
