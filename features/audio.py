"""Audio files to mono float32 at one rate. Every way in which a file can be bad is one `BadAudio`."""

import math
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import xxhash
from numpy.typing import NDArray

from features.apart import decode_apart
from features.containers import FINDERS, BadContainer, require_whole
from features.decoding import LONGEST, BadAudio, decode_pcm24
from features.mpeg import after_id3

LARGEST = 2**32  # bytes of a file


@dataclass(frozen=True)
class Recording:
    """A recording as the front end takes it."""

    samples: NDArray[np.float32]  # (sample,), mono, full scale is 1
    digest: str  # of the file's bytes
    notes: tuple[str, ...]  # what was done to it: mixed down, resampled, tiled, cut


def read(path: Path, sample_rate: int, seconds: float | None = None) -> Recording:
    """Decode a file of one of FORMATS, whatever its name; mix down to mono; resample to `sample_rate` in Hz.

    With `seconds`, the result has exactly that length: of a longer recording no more is decoded, a shorter one is
    repeated. Raises BadAudio.
    """
    data = content(path)
    try:
        sound = without_id3(data)
        missing = require_whole(sound)
    except BadContainer as error:
        raise BadAudio(str(error)) from None
    decoded = decode_pcm24(sound, seconds) or decode_apart(sound, seconds)
    samples, rate = decoded.samples, decoded.rate
    if len(samples) == 0:
        raise BadAudio("no samples")
    lowest, highest = float(samples.min()), float(samples.max())  # NaN comes through both
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise BadAudio("NaN or infinite samples")
    if max(-lowest, highest) > 2**31:  # no format's integers go further, and their power would overflow
        raise BadAudio("samples far beyond full scale")
    notes = [f"{missing} bytes fewer than its header says"] if missing else []
    mono: NDArray[np.float32] = samples[:, 0]
    if samples.shape[1] > 1:
        mono = samples.mean(1)
        notes.append(f"mixed down from {samples.shape[1]} channels")
    if rate != sample_rate:
        if len(mono) * sample_rate / rate > LONGEST:
            raise BadAudio(f"too long at {sample_rate} Hz")
        mono = soxr.resample(mono, rate, sample_rate).astype(np.float32, copy=False)
        notes.append(f"resampled from {rate} Hz")
        if len(mono) == 0:
            raise BadAudio(f"no samples left at {sample_rate} Hz")
    if seconds is not None:
        mono = fit_length(mono, round(seconds * sample_rate), notes)
    return Recording(mono, xxhash.xxh3_128_hexdigest(data), tuple(notes))


def without_id3(data: bytes) -> bytes:
    """Without a tag before a container of another kind: sizes and places in it are meant without one."""
    start = after_id3(data)
    return data[start:] if start and data.startswith(tuple(FINDERS), start) else data


def content(path: Path) -> bytes:
    """Raises BadAudio, and OSError where not the file is at fault."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            raise BadAudio("no file, but a pipe or a device, which may have no end")
        if about.st_size > LARGEST:
            raise BadAudio(f"{about.st_size:,} bytes, and at most {LARGEST:,} are read")
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        # Any other error is not the file's but the disk's, and to be resolved: a quarantine would outlast it.
        raise BadAudio(error.strerror or "cannot be read") from None
    if not data:
        raise BadAudio("the file is empty")
    return data


def fit_length(samples: NDArray[np.float32], length: int, notes: list[str]) -> NDArray[np.float32]:
    """Cut or repeat to `length` samples, adding a note where that changes the sound.

    A difference of under 0.1 % is a codec's padding and is not worth a note.
    """
    have = len(samples)
    if abs(have - length) > length / 1000:
        notes.append(f"tiled from {have} to {length} samples" if have < length else f"cut to {length} samples")
    return np.resize(samples, length) if have < length else samples[:length]
