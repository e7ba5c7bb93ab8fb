"""Every setting with its type, its default and what it does, from the code: types as declared, comments as written."""

import ast
import dataclasses
import io
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticUndefined

from models.recipe import Recipe
from models.table import Table
from orchestrator.config.entries import RECIPE, read_entries
from orchestrator.config.experiment import Experiment
from orchestrator.config.reading import nearest
from orchestrator.config.space import Choices, Range
from orchestrator.errors import UserError

ANY_NAME = "NAME"  # of a mapping whose keys are the user's, such as the teachers
WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}


@dataclasses.dataclass(frozen=True)
class Explained:
    """One setting, or a section of them."""

    name: str  # dotted
    kind: str
    default: str  # empty where there is none
    about: str
    row: str = ""  # of a table's row: the name that the setting is there for

    @property
    def line(self) -> str:
        """Such as "student.recipe.mixup_alpha: number, default 0.4; 0: no mixup"."""
        which = f" (of {self.row})" if self.row else ""
        default = f", default {self.default}" if self.default else ""
        return f"{self.name}{which}: {self.kind}{default}{'; ' if self.about else ''}{self.about}"


def settings() -> list[Explained]:
    """All that an experiment has, in the order of the code."""
    return list(fields_of(Experiment, "", PydanticUndefined))


def explain(key: str) -> list[Explained]:
    """The setting of that name, and all below it. Raises UserError where there is none."""
    found = [one for one in settings() if matches(one.name, key)]
    if not found:
        names = [one.name for one in settings()]
        short = [name for name in names if name.rpartition(".")[2] == key]
        hint = f"; there is {', '.join(short[:3])}" if short else nearest(key, names)
        raise UserError(f"no setting '{key}'{hint}; `stillhouse config explain` shows all")
    return found


def matches(name: str, key: str) -> bool:
    """Whether a setting is the key's, or below it; a name of the user's own stands for ANY_NAME."""
    parts, wanted = name.split("."), key.split(".")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) >= len(wanted) and all(part in (word, ANY_NAME) for part, word in pairs)


def fields_of(kind: type, prefix: str, default: Any, row: str = "") -> Iterator[Explained]:
    """The settings of a class, whose values are those of `default` where that is an instance."""
    for name, annotation, own in declared(kind):
        value = getattr(default, name, own) if default is not PydanticUndefined else own
        yield from explained(annotation, f"{prefix}{name}", value, comment(kind, name), row)


def explained(annotation: Any, name: str, default: Any, about: str, row: str) -> Iterator[Explained]:
    """A setting of that type, and what is below it."""
    kind, validator = unwrapped(annotation)
    table = validator.args[0] if isinstance(validator, partial) else None
    if isinstance(table, Table):
        yield from explained_table(table, validator.func is read_entries, name, default, about, row)
    elif typing.get_origin(kind) in (dict, Mapping) and (inner := section(typing.get_args(kind)[1])):
        yield Explained(name, "section, by name", "", about, row)
        yield from fields_of(inner, f"{name}.{ANY_NAME}.", PydanticUndefined, row)
    elif inner := section(kind):
        optional = ", or null" if type(None) in typing.get_args(kind) else ""
        yield Explained(name, f"section{optional}", "null" if default is None else "", about or first(inner), row)
        yield from fields_of(inner, f"{name}.", PydanticUndefined if default is None else default, row)
    else:
        yield Explained(name, in_words(kind), shown(default), about, row)


def explained_table(
    table: Table, is_several: bool, name: str, default: Any, about: str, row: str
) -> Iterator[Explained]:
    """A setting that names one row of a table, or that has some rows by name, and the rows' own settings."""
    which = "some" if is_several else "one"
    yield Explained(name, f"{which} of {', '.join(table)}, or package.module:Name", shown(default, table), about, row)
    for entry, found in table.items():
        inside = default if isinstance(default, found.settings) else PydanticUndefined
        prefix = f"{name}.{entry}." if is_several else f"{name}."
        for one in fields_of(found.settings, prefix, inside, row if is_several else entry):
            if one.name != f"{prefix}{table.key}":
                yield one


def section(kind: Any) -> type | None:
    """The class whose fields are settings, where the type is one, or one or nothing."""
    options = [unwrapped(one)[0] for one in typing.get_args(kind)] if is_union(kind) else [unwrapped(kind)[0]]
    found = [
        one
        for one in options
        if isinstance(one, type) and (issubclass(one, BaseModel) or dataclasses.is_dataclass(one))
    ]
    return found[0] if len(found) == 1 and found[0] not in (Range, Choices) else None


def unwrapped(annotation: Any) -> tuple[Any, Any]:
    """A type without its Annotated, and what reads a value before it is validated."""
    if typing.get_origin(annotation) is not Annotated:
        return annotation, None
    kind, *more = typing.get_args(annotation)
    return kind, next((one.func for one in more if isinstance(one, BeforeValidator)), None)


def declared(kind: type) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each field."""
    if issubclass(kind, BaseModel):
        hints = typing.get_type_hints(kind, include_extras=True)
        for name, field in kind.model_fields.items():
            yield name, hints[name], field.get_default(call_default_factory=True)
        return
    assert dataclasses.is_dataclass(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        default = field.default if field.default is not dataclasses.MISSING else PydanticUndefined
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        hint = hints[field.name]
        yield (
            field.name,
            Annotated[hint, RECIPE[field.name]] if kind is Recipe and field.name in RECIPE else hint,
            default,
        )


def comment(kind: type, name: str) -> str:
    """What stands behind a field in the source, or above it."""
    owner = next(one for one in kind.__mro__ if name in vars(one).get("__annotations__", {}))
    return comments(owner).get(name, "")


@cache
def comments(kind: type) -> dict[str, str]:
    """What stands above, behind or in a string below a class's fields, by name."""
    import inspect

    lines, start = inspect.getsourcelines(kind)
    source = "".join(lines)
    body = ast.parse(inspect.cleandoc("\n" + source) if source[0].isspace() else source).body[0]
    assert isinstance(body, ast.ClassDef) and start
    notes = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node, after in zip_longest(body.body, body.body[1:]):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above, place = [], node.lineno - 1
            while place in notes and notes[place][1]:
                above.insert(0, notes[place][0])
                place -= 1
            behind = [notes[row][0] for row in range(node.lineno, (node.end_lineno or node.lineno) + 1) if row in notes]
            below = [after.value.value] if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else []
            found[node.target.id] = " ".join([*above, *behind, *map(str, below)])
    return found


def first(kind: type) -> str:
    """The first sentence of a class's docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def is_union(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union


def in_words(kind: Any) -> str:
    """A type as a person says it."""
    kind = unwrapped(getattr(kind, "__value__", kind))[0]
    if is_union(kind):
        options = [in_words(one) for one in typing.get_args(kind) if one is not type(None)]
        return " or ".join(dict.fromkeys(options)) + (", or null" if type(None) in typing.get_args(kind) else "")
    if typing.get_origin(kind) is Literal:
        return " | ".join(map(str, typing.get_args(kind)))
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (tuple, list):
        if len(arguments) == 2 and arguments[1] is not Ellipsis:
            return f"two of: {in_words(arguments[0])}"
        return f"list of: {in_words(arguments[0])}"
    if typing.get_origin(kind) in (dict, Mapping):
        return f"mapping from {in_words(arguments[0])} to {in_words(arguments[1])}"
    if kind in (Range, Choices):
        return "{low, high, log}" if kind is Range else "{choices}"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def shown(value: Any, table: Table | None = None) -> str:
    """A default in YAML's words."""
    if value is PydanticUndefined:
        return ""
    if table is not None:
        return ", ".join(value) if isinstance(value, Mapping) else str(getattr(value, table.key, value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def commented(text: str) -> str:
    """Settings in YAML, as `to_yaml` writes them, each with what it does."""
    path: list[str] = []
    lines = []
    for line in text.splitlines():
        key, colon, _ = line.strip().partition(":")
        if colon and not line.lstrip().startswith("- "):
            path = [*path[: (len(line) - len(line.lstrip())) // 2], key]
            about = about_of(".".join(path))
            line += f"  # {about}" if about else ""
        lines.append(line)
    return "\n".join(lines) + "\n"


def about_of(name: str) -> str:
    """What a setting does; empty where the name is the user's own, or several rows of a table have such a setting."""
    found = [one for one in abouts() if one.name.count(".") == name.count(".") and matches(one.name, name)]
    return found[0].about if len(found) == 1 else ""


@cache
def abouts() -> list[Explained]:
    return [one for one in settings() if one.about]
