"""Reads the YAML files that people write, and reports a mistake in them in one line."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.config.plain_yaml import parse_yaml
from orchestrator.errors import UserError


class Strict(BaseModel):
    """A misspelt key is an error, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file. Raises UserError where it cannot be read or parsed."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file") from None


def explain(error: ValidationError, kind: type) -> str:
    """The first problem in one line, with the nearest right name for a misspelt one."""
    problem = error.errors()[0]
    where = place_of(error)
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        options = names_at(kind, problem["loc"][:-1])
        hint = nearest(str(problem["loc"][-1]), options) or f"; known are {', '.join(options)}"
        return f"unknown setting '{where}'{hint}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] == "value_error" else f" (not {problem['input']!r})"
    return f"{where + ': ' if where else ''}{message}{given}"


def place_of(error: ValidationError) -> str:
    """The dotted name of the setting that the first problem is about."""
    # Brackets are pydantic's own names of validators and of a union's members.
    return ".".join(str(part) for part in error.errors()[0]["loc"] if "[" not in str(part))


def names_at(kind: Any, path: Sequence[Any]) -> list[str]:
    """Names of the settings in the section at `path`, following types."""
    if typing.get_origin(kind) is Annotated:
        return names_at(typing.get_args(kind)[0], path)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        options = [names_at(option, path) for option in typing.get_args(kind)]
        return max(options, key=len, default=[])
    if typing.get_origin(kind) is tuple and path:
        return names_at(typing.get_args(kind)[0], path[1:])
    if typing.get_origin(kind) is dict and path:
        return names_at(typing.get_args(kind)[1], path[1:])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {name: field.annotation for name, field in kind.model_fields.items()}
    elif dataclasses.is_dataclass(kind):
        fields = {field.name: field.type for field in dataclasses.fields(kind)}
    else:
        return []
    if not path:
        return list(fields)
    return names_at(fields[path[0]], path[1:]) if path[0] in fields else names_at(kind, path[1:])


def nearest(word: str, options: Sequence[str]) -> str:
    """A hint at the option that is spelled most like the word; empty where none is."""
    near = get_close_matches(word, options, 1)
    return f"; did you mean '{near[0]}'?" if near else ""
