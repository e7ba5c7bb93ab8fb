"""JSON of our own whose values have the types that they are meant to have, or the file is damaged."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from orchestrator.storage.files import damaged, read_json, read_lines, readable

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def read_typed[T](kind: type[T], path: Path) -> T:
    """The file's value. Raises Unreadable where it is no `kind`."""
    return typed(kind, read_json(path), path)


def typed[T](kind: type[T], value: object, path: Path) -> T:
    """The value, which `path` holds. Raises Unreadable where it is no `kind`."""
    from pydantic import ValidationError

    try:
        return cast("T", adapter(kind).validate_python(value))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise damaged(path, f"{where}: {problem['msg']}" if where else problem["msg"]) from None


def read_rows(is_one: Callable[[object], bool], path: Path) -> list[Any]:
    """The lines of a file; no lines where there is no file. Raises Unreadable where one is not of its kind."""
    rows = read_lines(path)
    for number, row in enumerate(rows, 1):
        if not is_one(row):
            raise damaged(path, f"line {number} is no row")
    return rows


def read_text(path: Path) -> str:
    """Raises Unreadable where it is no text."""
    with readable(path):
        return path.read_text(encoding="utf-8")


@cache
def adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter  # takes a second, which the trials' processes do not need

    return TypeAdapter(kind)
