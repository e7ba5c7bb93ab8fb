"""What a file's header promises of its samples, and what of it the file has. libsndfile reads files that were cut.

WAV, RF64 and W64, AIFF, AU and CAF say how many bytes of samples they have; Ogg marks its last page. Recorders that
write to a pipe cannot know the number, and leave a placeholder.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

PCM, EXTENSIBLE = 1, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
PLACEHOLDERS = (range(0x7FFF_F000, 0x8000_0000), range(0xFFFF_F000, 0x1_0000_0000))  # of sox, ffmpeg and others
SLACK = 64  # bytes that a careless header may be beyond the file; or a thousandth of the samples
TRUNCATED = "truncated: the header promises more samples than the file has"
W64_RIFF, W64_WAVE, W64_DATA = (
    bytes.fromhex(text)
    for text in (
        "726966662e91cf11a5d628db04c10000",
        "77617665f3acd3118cd100c04f8edb8a",
        "64617461f3acd3118cd100c04f8edb8a",
    )
)


class BadContainer(ValueError):
    """The file is not what its header says; the message is the reason."""


@dataclass(frozen=True)
class Chunk:
    """A named part of a RIFF, AIFF or similar file."""

    name: bytes
    start: int  # of its content, in the file
    size: int  # as declared


@dataclass(frozen=True)
class Samples:
    """Where a file's samples are."""

    start: int
    promised: int | None  # bytes; None: until the end of the file

    def missing(self, length: int) -> int:
        """Bytes that are promised and that a file of `length` bytes lacks."""
        return 0 if self.promised is None else max(0, self.start + self.promised - length)


def samples_of(data: bytes) -> Samples | None:
    """Of a file in one of the containers that say it; None for others. Raises BadContainer."""
    for magic, find in FINDERS.items():
        if data.startswith(magic):
            return find(data)
    return None


def require_whole(data: bytes) -> int:
    """How many promised bytes a usable file lacks: those that a careless header has too many. Raises BadContainer."""
    found = samples_of(data)
    missing = found.missing(len(data)) if found else 0
    if found and found.promised and missing > max(SLACK, found.promised // 1000):
        raise BadContainer(TRUNCATED)
    if is_truncated_ogg(data):
        raise BadContainer("truncated: the last page is missing")
    return missing


@dataclass(frozen=True)
class Pcm:
    """Where plain PCM of a WAV file is."""

    start: int
    frames: int
    channels: int
    rate: int  # Hz


def pcm24(data: bytes) -> Pcm | None:
    """24-bit PCM of a WAV file of which every field is understood and fits the others; None for anything else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE" or int.from_bytes(data[4:8], "little") + 8 != len(data):
        return None
    found = [chunk for chunk in chunks(data, 12, "little") if chunk.name in (b"fmt ", b"data")]
    if [chunk.name for chunk in found] != [b"fmt ", b"data"]:
        return None
    form, samples = (next(chunk for chunk in found if chunk.name == name) for name in (b"fmt ", b"data"))
    if form.size not in (16, 18, 40):
        return None
    tag, channels, rate, a_second, align, bits = struct.unpack_from("<HHIIHH", data, form.start)
    rest = data[form.start + 16 : form.start + form.size]
    if form.size == 40:
        size, valid, mask = struct.unpack_from("<HHI", rest)
        if (tag, size, valid, rest[8:]) != (EXTENSIBLE, 22, 24, PCM_GUID) or mask.bit_count() not in (0, channels):
            return None
    elif tag != PCM or any(rest):
        return None
    if bits != 24 or align != 3 * channels or a_second != rate * align or channels == 0 or rate == 0:
        return None
    if samples.size % align or samples.start + samples.size > len(data):
        return None
    return Pcm(samples.start, samples.size // align, channels, rate)


def chunks(data: bytes, start: int, order: Literal["little", "big"]) -> Iterator[Chunk]:
    """Of RIFF and AIFF: four letters, a size of four bytes, content, padded to an even number of bytes."""
    while start + 8 <= len(data):
        chunk = Chunk(data[start : start + 4], start + 8, int.from_bytes(data[start + 4 : start + 8], order))
        if chunk.name == bytes(4):  # a recorder's room for more, or a disk's
            return
        yield chunk
        start = chunk.start + chunk.size + chunk.size % 2


def is_placeholder(size: int) -> bool:
    """Whether a declared size stands for one that the writer did not know."""
    return any(size in sizes for sizes in PLACEHOLDERS)


def is_open(chunk: Chunk, data: bytes) -> bool:
    """Whether a chunk goes on to the end of the file, whose length its writer did not know."""
    return is_placeholder(chunk.size) and chunk.start + chunk.size > len(data)


def only[T](found: list[T]) -> T | None:
    """The chunk of samples, if there is one. Raises BadContainer for several: libsndfile reads one of them."""
    if len(found) > 1:
        raise BadContainer("several chunks of samples in one file")
    return found[0] if found else None


def with_open_end(data: bytes) -> bytes:
    """The file, with its samples' size where it goes on to its end and has a placeholder that libsndfile refuses.

    Those are 0 in WAV, where libsndfile finds nothing, and -1 in CAF.
    """
    kind = data[:4]
    found = samples_of(data) if kind in (b"RIFF", b"RIFX", b"caff") else None
    if found is None or found.promised is not None:
        return data
    size = len(data) - found.start
    if kind == b"caff":
        return data[: found.start - 8] + size.to_bytes(8, "big") + data[found.start :]
    if any(data[found.start - 4 : found.start]):
        return data
    return data[: found.start - 4] + size.to_bytes(4, "little" if kind == b"RIFF" else "big") + data[found.start :]


def wave(data: bytes) -> Samples | None:
    """RIFF, and RIFX with the high bytes first."""
    if data[8:12] != b"WAVE":
        return None
    order = "big" if data.startswith(b"RIFX") else "little"
    require_fitting_samples(data, order)
    found = only([chunk for chunk in chunks(data, 12, order) if chunk.name == b"data"])
    if found is None:
        return None
    declared = int.from_bytes(data[4:8], order)
    never_filled_in = declared == 0 or declared + 8 <= found.start or is_placeholder(declared)
    if found.size == 0 and never_filled_in:
        return Samples(found.start, None)
    return Samples(found.start, None if is_open(found, data) else found.size)


def require_fitting_samples(data: bytes, order: Literal["little", "big"]) -> None:
    """Raise BadContainer where the extensible header's samples do not fill their frames: libsndfile reads noise."""
    form = next((chunk for chunk in chunks(data, 12, order) if chunk.name == b"fmt "), None)
    if form is None or form.size < 40 or form.start + 40 > len(data):
        return
    tag, channels, _, _, align, bits = struct.unpack_from(
        "<HHIIHH" if order == "little" else ">HHIIHH", data, form.start
    )
    is_pcm = tag == EXTENSIBLE and data[form.start + 24 : form.start + 40] == PCM_GUID
    if is_pcm and align != channels * -(-bits // 8):
        raise BadContainer(
            f"its header contradicts itself: frames of {align} bytes for {channels} samples of {bits} bits"
        )


def rf64(data: bytes) -> Samples | None:
    """EBU Tech 3306: the sizes of 64 bits are in a chunk of their own."""
    sizes = next(chunks(data, 12, "little"), None)
    if sizes is None or sizes.name != b"ds64":
        return None
    promised = int.from_bytes(data[sizes.start + 8 : sizes.start + 16], "little")
    for chunk in chunks(data, 12, "little"):
        if chunk.name == b"data":
            size = promised if chunk.size == 0xFFFF_FFFF else chunk.size
            return Samples(chunk.start, None if size in (0, 2**64 - 1, 2**63 - 1) else size)
    return None


def w64(data: bytes) -> Samples | None:
    """Sony's: names of 16 bytes, sizes of 8 that count the header, content padded to 8."""
    if data[:16] != W64_RIFF or data[24:40] != W64_WAVE:
        return None
    found, start = [], 40
    while start + 24 <= len(data):
        size = int.from_bytes(data[start + 16 : start + 24], "little")
        if size < 24:
            break
        if data[start : start + 16] == W64_DATA:
            found.append(Samples(start + 24, None if size >= 2**63 - 1 else size - 24))
        start += size + -size % 8
    return only(found)


def aiff(data: bytes) -> Samples | None:
    """Where the samples of an AIFF or AIFC file are; None for other FORM files. Raises BadContainer."""
    if data[8:12] not in (b"AIFF", b"AIFC"):
        return None
    found = only([chunk for chunk in chunks(data, 12, "big") if chunk.name == b"SSND"])
    if found is None:
        return None
    return Samples(found.start, None if is_open(found, data) else found.size)


def au(data: bytes, order: Literal["little", "big"] = "big") -> Samples:
    """Where the samples of a Sun AU file are; its sizes are little-endian in some."""
    start, size = (int.from_bytes(data[place : place + 4], order) for place in (4, 8))
    return Samples(start, None if is_open(Chunk(b"", start, size), data) else size)


def caf(data: bytes) -> Samples | None:
    """Apple's: names of 4 bytes, sizes of 8, -1 for until the end."""
    found, start = [], 8
    while start + 12 <= len(data):
        size = int.from_bytes(data[start + 4 : start + 12], "big", signed=True)
        if data[start : start + 4] == b"data":
            found.append(Samples(start + 12, None if size < 0 else size))
        if size < 0:
            break
        start += 12 + size
    return only(found)


FINDERS = {
    b"RIFF": wave,
    b"RIFX": wave,
    b"RF64": rf64,
    b"BW64": rf64,
    b"riff": w64,
    b"FORM": aiff,
    b".snd": au,
    b"dns.": partial(au, order="little"),
    b"caff": caf,
}


def is_truncated_ogg(data: bytes) -> bool:
    """Whether an Ogg file ends before the page marked as its last (RFC 3533). Raises BadContainer for a chained one.

    Of several streams one after another, as broadcasts are recorded, libsndfile reads the first.
    """
    position, last = 0, False
    while data[position : position + 4] == b"OggS" and position + 27 <= len(data):
        segments = data[position + 26]
        if last and data[position + 5] & 2:
            raise BadContainer("several streams one after another in one file")
        last = bool(data[position + 5] & 4)
        position += 27 + segments + sum(data[position + 27 : position + 27 + segments])
    return position > 0 and (not last or position > len(data))
