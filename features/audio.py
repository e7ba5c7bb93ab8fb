"""Audio files to mono float32 at one rate. Every way in which a file can be bad is one `BadAudio`."""

import io
import math
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import xxhash
from numpy.typing import NDArray

BLOCK = 2**15  # samples converted at a time: they stay in the cache


class BadAudio(Exception):
    """The file cannot be used; the message is the reason, without the path."""


@dataclass(frozen=True)
class Recording:
    samples: NDArray[np.float32]  # (sample,), mono, full scale is 1
    digest: str  # of the file's bytes
    notes: tuple[str, ...]  # what was done to it: mixed down, resampled, tiled, cut


def read(path: Path, sample_rate: int, seconds: float | None = None) -> Recording:
    """Decode WAV, FLAC, OGG or MP3; mix down to mono; resample to `sample_rate` in Hz.

    With `seconds`, the result has exactly that length: a longer recording is cut at its end, a shorter
    one is repeated. Raises BadAudio.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        # Any other error is not the file's but the disk's, and to be resolved: a quarantine would outlast it.
        raise BadAudio(error.strerror or "cannot be read") from None
    if not data:
        raise BadAudio("the file is empty")
    samples, declared, rate = decode_pcm24(data) or decode(data)
    if len(samples) == 0:
        raise BadAudio("no samples")
    if len(samples) < declared or is_truncated_wav(data) or is_truncated_ogg(data):
        raise BadAudio("truncated: the header promises more samples than the file has")
    lowest, highest = float(samples.min()), float(samples.max())  # NaN comes through both
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise BadAudio("NaN or infinite samples")
    if max(-lowest, highest) > 2**31:  # no format's integers go further, and their power would overflow
        raise BadAudio("samples far beyond full scale")
    notes: list[str] = []
    mono: NDArray[np.float32] = samples[:, 0]
    if samples.shape[1] > 1:
        mono = samples.mean(1)
        notes.append(f"mixed down from {samples.shape[1]} channels")
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate).astype(np.float32, copy=False)
        notes.append(f"resampled from {rate} Hz")
        if len(mono) == 0:
            raise BadAudio(f"no samples left at {sample_rate} Hz")
    if seconds is not None:
        mono = fit_length(mono, round(seconds * sample_rate), notes)
    return Recording(mono, xxhash.xxh3_128_hexdigest(data), tuple(notes))


def decode(data: bytes) -> tuple[NDArray[np.float32], int, int]:
    """Samples (sample, channel), how many the header promises, and the rate in Hz. Raises BadAudio."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples = file.read(dtype="float32", always_2d=True)
            return np.asarray(samples, np.float32), file.frames, file.samplerate
    except soundfile.LibsndfileError as error:  # its `str` holds the buffer's address, new in every process
        raise BadAudio(f"not readable as audio ({error.error_string.rstrip('.')})") from None
    except RuntimeError as error:
        raise BadAudio(f"not readable as audio ({str(error).rstrip('.')})") from None
    except MemoryError:
        raise BadAudio("the header promises more samples than memory holds") from None


def decode_pcm24(data: bytes) -> tuple[NDArray[np.float32], int, int] | None:
    """`decode` for 24-bit PCM in WAV, the format of the TAU sets, in a fifth of the time; None for anything else."""
    stream = io.BytesIO(data)
    try:
        with wave.open(stream) as file:
            header, start = file.getparams(), stream.tell()  # where the samples begin
    except (wave.Error, EOFError, RuntimeError):  # the last for a chunk that ends beyond its parent
        return None
    if header.sampwidth != 3 or header.framerate == 0:
        return None
    channels = header.nchannels
    count = min(header.nframes, (len(data) - start) // (3 * channels)) * channels
    # Four bytes at every third: the sample above a byte that is not its own.
    words = np.ndarray((count,), "<i4", data, start - 1, (3,))
    samples = np.empty(count, np.float32)
    for low in range(0, count, BLOCK):
        part = slice(low, low + BLOCK)
        np.multiply(words[part] & -256, np.float32(2**-31), out=samples[part], casting="unsafe")
    return samples.reshape(-1, channels), header.nframes, header.framerate


def fit_length(samples: NDArray[np.float32], length: int, notes: list[str]) -> NDArray[np.float32]:
    """Cut or repeat to `length` samples, adding a note where that changes the sound.

    A difference of under 0.1 % is a codec's padding and is not worth a note.
    """
    have = len(samples)
    if abs(have - length) > length / 1000:
        notes.append(f"{'tiled' if have < length else 'cut'} from {have} to {length} samples")
    return np.resize(samples, length) if have < length else samples[:length]


def is_truncated_ogg(data: bytes) -> bool:
    """Whether an Ogg file ends before the page marked as its last; libsndfile reads such a file silently."""
    position, last = 0, False
    while data[position : position + 4] == b"OggS" and position + 27 <= len(data):
        segments = data[position + 26]
        last = bool(data[position + 5] & 4)
        position += 27 + segments + sum(data[position + 27 : position + 27 + segments])
    return position > 0 and (not last or position > len(data))


def is_truncated_wav(data: bytes) -> bool:
    """Whether a RIFF file is shorter than its header declares; libsndfile reads such a file silently."""
    declared = int.from_bytes(data[4:8], "little") + 8
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE" and declared < 0xFFFFFFFF and len(data) < declared - 1
