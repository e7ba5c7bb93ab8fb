"""Small files of our own: JSON, and JSON lines. Each is written in one step, and one that is damaged is named."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.files import replacing
from orchestrator.errors import Unreadable


def write_json(path: Path, value: Any) -> None:
    """Write a value in one step: readers find the file before or after it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Raises Unreadable where the file is damaged."""
    with readable(path):
        return parsed(path.read_text())


def parsed(text: str) -> Any:
    """The value of JSON. Raises ValueError, also where it holds half of a surrogate pair, which no file can."""
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


@contextmanager
def readable(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Raise Unreadable in place of ValueError, RecursionError (JSON nested deeply) and the kinds of `damage`."""
    try:
        yield
    except (ValueError, RecursionError, *damage) as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, reason: str) -> Unreadable:
    """What is raised for a file of our own that is not as it was written."""
    return Unreadable(f"{path} is damaged ({reason}); give the same `stillhouse run` again, which makes it anew")


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """All lines of a file, in one step."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a file of JSON lines."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[Any]:
    """No lines where there is no file. Raises Unreadable where it is damaged."""
    with readable(path):
        return [parsed(line) for line in path.read_text().splitlines()] if path.exists() else []
