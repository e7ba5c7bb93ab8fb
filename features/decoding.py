"""The bytes of an audio file to samples. Every way in which they can be bad is one `BadAudio`."""

import errno
import io
import math
import os
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.containers import TRUNCATED, pcm24, with_open_end
from features.mpeg import stream_of, with_length

BLOCK = 2**15  # samples converted at a time: they stay in the cache
DECODED = 2**20  # frames decoded at a time
RATES = range(1_000, 1_000_001)  # Hz
CHANNELS = 64  # at most
LONGEST = 2**29  # samples of all channels, or at the rate that is asked for: 3.4 hours at 44.1 kHz
MARGIN = 0.5  # seconds that are decoded beyond the clip's end, for the resampling filter
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3")  # whose cuts are noticed
TRIMMED = 4000  # samples that a decoder of MPEG audio may leave out: delay and padding
UNKNOWN = 2**63 - 1  # frames, where a header does not say it (libsndfile's SF_COUNT_MAX)


class BadAudio(Exception):
    """The file cannot be used; the message is the reason, without the path."""


class Forward(soundfile.SoundFile):
    """Read from its beginning to its end. soundfile seeks after each read otherwise, which not every file allows."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Decoded:
    """Samples as they are in the file, before they are mixed down and resampled."""

    samples: NDArray[np.float32]  # (frame, channel)
    rate: int  # Hz


def decode(data: bytes, seconds: float | None = None) -> Decoded:
    """All samples, or those that `seconds` need, as libsndfile decodes them. Raises BadAudio."""
    try:
        with Forward(io.BytesIO(with_open_end(data))) as file:
            if file.format not in FORMATS:
                raise BadAudio(f"{file.format} is not read: nothing says whether such a file was cut")
            if file.format == "FLAC" and 0 < file.frames < UNKNOWN and not reaches_its_end(data, file.frames):
                raise BadAudio(TRUNCATED)
            if file.format != "MP3":
                return decoded_of(file, seconds, file.frames)
        stream = stream_of(data)
        if stream is None or stream.has_gap:
            raise BadAudio("damaged: some of its frames cannot be read")
        if stream.is_cut or (stream.said or 0) > stream.count + bool(stream.header):  # some writers count the header
            raise BadAudio(TRUNCATED)
        with Forward(io.BytesIO(with_length(data, stream))) as file:
            return decoded_of(file, seconds, stream.count * stream.first.samples - TRIMMED)
    except soundfile.LibsndfileError as error:  # its `str` holds the buffer's address, new in every process
        raise BadAudio(f"not readable as audio ({error.error_string.rstrip('.')})") from None
    except BadAudio:
        raise
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None  # of this machine, not of the file
    except Exception as error:  # whatever a decoder raises for a file is about that file
        raise BadAudio(f"not readable as audio ({str(error).rstrip('.') or type(error).__name__})") from None


def reaches_its_end(data: bytes, frames: int) -> bool:
    """Whether a FLAC's last sample can be read, whose place a seek finds in a few steps."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            file.seek(frames - 1)
            return len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def decoded_of(file: Forward, seconds: float | None, promised: int) -> Decoded:
    """Until the end of the file, whatever number of frames its header says; or as many as `seconds` need.

    Raises BadAudio where these are fewer than `promised`.
    """
    require_plausible(file.samplerate, file.channels)
    wanted = frames_of(seconds, file.samplerate)
    if file.format == "OGG":  # a damaged page is left out silently: only the whole length tells
        wanted = UNKNOWN
    elif file.format == "FLAC" and 0 < file.frames < UNKNOWN:  # what is behind the last one may be a tag
        wanted = min(wanted, file.frames)
    parts, have = list[NDArray[np.float32]](), 0
    while have < wanted:
        part = np.asarray(file.read(min(DECODED, wanted - have), dtype="float32", always_2d=True), np.float32)
        if len(part) == 0:
            break
        parts.append(part)
        have += len(part)
        if have * file.channels > LONGEST:
            raise BadAudio(f"longer than {LONGEST // file.channels // file.samplerate} s")
    if have < wanted and have < promised < UNKNOWN:
        raise BadAudio(TRUNCATED)
    samples = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty((0, file.channels), np.float32)])
    return Decoded(samples, file.samplerate)


def require_plausible(rate: int, channels: int) -> None:
    """Raise BadAudio for a header that no recording has."""
    if rate not in RATES:
        raise BadAudio(f"its header says {rate} Hz, and rates from {RATES[0]:,} to {RATES[-1]:,} Hz are read")
    if channels > CHANNELS:
        raise BadAudio(f"its header says {channels} channels, and at most {CHANNELS} are read")


def frames_of(seconds: float | None, rate: int) -> int:
    """Frames that `seconds` need, with the margin; of None as many as there can be."""
    return UNKNOWN if seconds is None else math.ceil((seconds + MARGIN) * rate)


def decode_pcm24(data: bytes, seconds: float | None = None) -> Decoded | None:
    """`decode` for 24-bit PCM in WAV, the format of the TAU sets, in a fifth of the time; None for anything else."""
    place = pcm24(data)
    if place is None:
        return None
    require_plausible(place.rate, place.channels)
    count = min(place.frames, frames_of(seconds, place.rate)) * place.channels
    if count > LONGEST:
        raise BadAudio(f"longer than {LONGEST // place.channels // place.rate} s")
    # Four bytes at every third: the sample above a byte that is not its own.
    words = np.ndarray((count,), "<i4", data, place.start - 1, (3,))
    samples = np.empty(count, np.float32)
    for low in range(0, count, BLOCK):
        part = slice(low, low + BLOCK)
        np.multiply(words[part] & -256, np.float32(2**-31), out=samples[part], casting="unsafe")
    return Decoded(samples.reshape(-1, place.channels), place.rate)
