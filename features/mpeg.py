"""The length of MPEG audio. Decoders estimate it from the first frame where no header says it; here frames are counted.

Frame headers after ISO/IEC 11172-3 and 13818-3; the Xing header, in a first frame of its own, after LAME's
documentation.
"""

from dataclasses import dataclass

KBITS = {  # by (MPEG-1, layer) and the header's four bits; 0: free format, which no frame's length follows from
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # MPEG-1, -2, -2.5
XING, INFO, VBRI = b"Xing", b"Info", b"VBRI"
OWN_KBITS = 64  # of the header that `with_length` adds: its frame has room for the header at every rate
HAS_FRAMES = 1  # flag of a Xing header


@dataclass(frozen=True)
class Frame:
    """One frame of an MPEG audio stream, by its header."""

    start: int  # in the file
    size: int  # bytes
    is_mpeg1: bool
    layer: int
    rate: int  # Hz
    is_mono: bool

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def samples(self) -> int:
        """Of each channel."""
        return 384 if self.layer == 1 else 1152 if self.layer == 2 or self.is_mpeg1 else 576

    @property
    def tag(self) -> int:
        """Where a Xing header stands: behind the frame header and the side information."""
        side = (17 if self.is_mono else 32) if self.is_mpeg1 else (9 if self.is_mono else 17)
        return self.start + 4 + side

    def continues(self, other: "Frame") -> bool:
        """Whether both can be of one stream."""
        return (self.is_mpeg1, self.layer, self.rate) == (other.is_mpeg1, other.layer, other.rate)


@dataclass(frozen=True)
class Stream:
    """The frames of a file."""

    first: Frame
    header: bytes  # Xing, Info or VBRI, where the first frame holds it instead of sound; else empty
    said: int | None  # frames that the header says
    count: int  # frames of sound that are whole, up to the first gap
    is_cut: bool  # the last frame is not
    has_gap: bool  # more frames follow behind bytes that are none


def frame_at(data: bytes, start: int) -> Frame | None:
    """The frame that begins there; None where there is no frame header, or one of free format."""
    if start + 4 > len(data) or data[start] != 0xFF or data[start + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[start + 1] >> 3 & 3, 4 - (data[start + 1] >> 1 & 3)
    bits, rate, padding = data[start + 2] >> 4, data[start + 2] >> 2 & 3, data[start + 2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or bits in (0, 15):
        return None
    is_mpeg1, hertz = version == 3, RATES[version][rate]
    bits_a_second = 1000 * KBITS[is_mpeg1, layer][bits]
    if layer == 1:
        size = (12 * bits_a_second // hertz + padding) * 4
    else:
        size = (144 if layer == 2 or is_mpeg1 else 72) * bits_a_second // hertz + padding
    return Frame(start, size, is_mpeg1, layer, hertz, is_mono=data[start + 3] >> 6 == 3)


def after_id3(data: bytes) -> int:
    """Where the sound can begin: behind ID3v2 tags."""
    start = 0
    while data[start : start + 3] == b"ID3" and start + 10 <= len(data):
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if data[start + 5] & 0x10 else 0)
    return start


def following(data: bytes, frame: Frame) -> Frame | None:
    """The stream's next frame, where it follows without a gap."""
    found = frame_at(data, frame.end)
    return found if found and found.continues(frame) else None


def has_frames(data: bytes, start: int) -> bool:
    """Whether three frames follow each other somewhere from `start` on: in tags hardly, though one may look like it."""
    while (start := data.find(b"\xff", start)) >= 0:
        frame = frame_at(data, start)
        second = frame and following(data, frame)
        if second and following(data, second):
            return True
        start += 1
    return False


def stream_of(data: bytes) -> Stream | None:
    """None for what is no MPEG audio, of which at least two frames follow each other."""
    frame = first = frame_at(data, after_id3(data))
    if first is None or following(data, first) is None:
        return None
    count, last = 0, first
    while frame is not None:
        count, last = count + 1, frame
        frame = following(data, frame)
    header, said = b"", None
    tag = data[first.tag : first.tag + 4]
    if first.layer == 3 and tag in (XING, INFO):
        header = tag
        if int.from_bytes(data[first.tag + 4 : first.tag + 8], "big") & HAS_FRAMES:
            said = int.from_bytes(data[first.tag + 8 : first.tag + 12], "big")
    elif data[first.start + 36 : first.start + 40] == VBRI:
        header, said = VBRI, int.from_bytes(data[first.start + 50 : first.start + 54], "big")
    is_cut = last.end > len(data)
    return Stream(first, header, said, count - bool(header) - is_cut, is_cut, has_frames(data, last.end))


def with_length(data: bytes, stream: Stream) -> bytes:
    """The file with a header that says how many frames it has, where it has none or another number."""
    if stream.first.layer != 3 or (stream.said == stream.count and stream.header != VBRI):
        return data
    start = stream.first.end if stream.header else stream.first.start
    if stream.said is not None and stream.header != VBRI:  # its other fields are kept: delay and padding
        place = stream.first.tag + 8
        return data[:place] + stream.count.to_bytes(4, "big") + data[place + 4 :]
    head = bytearray(data[stream.first.start : stream.first.start + 4])
    head[1] |= 1  # no checksum
    head[2] = KBITS[stream.first.is_mpeg1, 3].index(OWN_KBITS) << 4 | head[2] & 0x0C  # no padding
    frame = frame_at(bytes(head), 0)
    assert frame is not None
    own = bytes(head).ljust(frame.tag, b"\0") + INFO + HAS_FRAMES.to_bytes(4, "big") + stream.count.to_bytes(4, "big")
    return own.ljust(frame.size, b"\0") + data[start:]
