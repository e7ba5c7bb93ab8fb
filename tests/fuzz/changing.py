"""Changes of a good input that make it damaged, foreign or hostile."""

import random
import struct
from collections.abc import Callable

INTEGERS = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFF000)
WORDS = (
    *("", "null", "true", "no", "010", "1:30", "1e18", "-1", "0", "1e309", "-.inf", ".nan", "9" * 5000, "0x7fffffff"),
    *("[]", "{}", "[[[[[[[[", "{{{{", "~", "'", '"', "|", ">-", "*a", "&a", "!!python/name:os.system", "\\ud800"),
    *("../../etc/passwd", "/", "a/../b", "~root", "\x00", "\x1b[31m", "\u202e", "\ufeff", "e\u0301", "é", "💥" * 50),
    *("<script>alert(1)</script>", "{{ 7 * 7 }}", "${HOME}", "$(touch executed)", "`touch executed`", "A" * 5000),
    *("2024-01-01", "1_000", "+1", "1.", ".5", "NaN", "Infinity", "-0.0", "1e-400", "inf", "None", "\t", "\r\n"),
)
EXECUTING = (
    "!!python/object/apply:os.system ['touch executed']",
    "!!python/object/apply:subprocess.Popen [['touch', 'executed']]",
    "!!python/object/new:os.system ['touch executed']",
    "!!python/module:os",
)


def changed_bytes(draw: random.Random, data: bytes) -> bytes:
    """One to four changes, most of them in the first 200 bytes, where headers are."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(BYTES)(draw, bytearray(data))
    return data


def place(draw: random.Random, data: bytearray) -> int:
    return draw.randrange(min(len(data), 200) if draw.random() < 0.7 else len(data)) if data else 0


def flipped(draw: random.Random, data: bytearray) -> bytes:
    for _ in range(draw.choice((1, 1, 3, 20))):
        if data:
            data[place(draw, data)] ^= 1 << draw.randrange(8)
    return bytes(data)


def renumbered(draw: random.Random, data: bytearray) -> bytes:
    """An integer of 1, 2, 4 or 8 bytes becomes an extreme one."""
    kind = draw.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size, at = struct.calcsize(kind), place(draw, data)
    value = draw.choice(INTEGERS) if draw.random() < 0.7 else draw.getrandbits(64)
    data[at : at + size] = struct.pack(kind, value % 2 ** (8 * size))
    return bytes(data)


def cut(draw: random.Random, data: bytearray) -> bytes:
    return bytes(data[: draw.randrange(len(data) + 1)])


def without(draw: random.Random, data: bytearray) -> bytes:
    at = place(draw, data)
    del data[at : at + draw.choice((1, 2, 4, 8, 100, 1000))]
    return bytes(data)


def doubled(draw: random.Random, data: bytearray) -> bytes:
    at, size = place(draw, data), draw.choice((1, 4, 8, 36, 500))
    data[at:at] = data[at : at + size]
    return bytes(data)


def with_noise(draw: random.Random, data: bytearray) -> bytes:
    at = place(draw, data)
    data[at:at] = draw.randbytes(draw.choice((1, 4, 64, 1000)))
    return bytes(data)


def with_a_chunk(draw: random.Random, data: bytearray) -> bytes:
    """A chunk of RIFF's kind in a place where one may begin."""
    name = draw.choice((b"data", b"fmt ", b"LIST", b"fact", b"ds64", b"id3 ", b"JUNK", draw.randbytes(4)))
    data[12:12] = name + struct.pack("<I", draw.choice((0, 4, 8, 0xFFFFFFFF))) + bytes(draw.choice((0, 4, 8)))
    return bytes(data)


BYTES: tuple[Callable[[random.Random, bytearray], bytes], ...] = (
    *(flipped, flipped, renumbered, renumbered, renumbered),
    *(cut, without, doubled, with_noise, with_a_chunk),
)


def changed_text(draw: random.Random, text: str) -> bytes:
    """One to four changes of lines and of the words in them; at times of the bytes."""
    lines = text.split("\n")
    for _ in range(draw.choice((1, 1, 2, 4))):
        lines = draw.choice(LINES)(draw, lines)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return changed_bytes(draw, data) if draw.random() < 0.15 else data


def other_word(draw: random.Random, lines: list[str]) -> list[str]:
    """A word, or what follows a separator, becomes a hostile one."""
    at = draw.randrange(len(lines))
    for separator in draw.sample([": ", ",", "\t", " ", '"'], 5):
        parts = lines[at].split(separator)
        if len(parts) > 1:
            parts[draw.randrange(len(parts))] = draw.choice(WORDS + EXECUTING)
            return [*lines[:at], separator.join(parts), *lines[at + 1 :]]
    return [*lines[:at], lines[at] + draw.choice(WORDS), *lines[at + 1 :]]


def other_number(draw: random.Random, lines: list[str]) -> list[str]:
    digits = [(row, at) for row, line in enumerate(lines) for at, letter in enumerate(line) if letter.isdigit()]
    if not digits:
        return lines
    row, at = draw.choice(digits)
    number = draw.choice(("-1", "0", "1e18", "1e300", "9" * 400, "NaN", "-0.0", "0.5", "null", '"1"', "[1]", "1e-300"))
    return [*lines[:row], lines[row][:at] + number + lines[row][at + 1 :], *lines[row + 1 :]]


def without_a_line(draw: random.Random, lines: list[str]) -> list[str]:
    at = draw.randrange(len(lines))
    return [*lines[:at], *lines[at + 1 :]] or [""]


def a_line_twice(draw: random.Random, lines: list[str]) -> list[str]:
    at = draw.randrange(len(lines))
    return [*lines[: at + 1], *lines[at:]]


def exchanged(draw: random.Random, lines: list[str]) -> list[str]:
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines = list(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def indented(draw: random.Random, lines: list[str]) -> list[str]:
    at = draw.randrange(len(lines))
    line = lines[at]
    return [*lines[:at], line[2:] if line.startswith("  ") and draw.random() < 0.5 else "  " + line, *lines[at + 1 :]]


def nested(draw: random.Random, lines: list[str]) -> list[str]:
    depth = draw.choice((10, 1000, 20_000))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}"), ("- ", "")))
    return [*lines, "deep: " + opening * depth + closing * depth]


def exploding(_: random.Random, lines: list[str]) -> list[str]:
    """Aliases of aliases: ten thousand million values in ten lines."""
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return [*lines, *bomb]


LINES: tuple[Callable[[random.Random, list[str]], list[str]], ...] = (
    *(other_word, other_word, other_word, other_number, other_number),
    *(without_a_line, a_line_twice, exchanged, indented, nested, exploding),
)
