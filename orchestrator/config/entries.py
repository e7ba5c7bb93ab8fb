"""Reading what a table offers: `{name: NAME, its settings}`, or the name alone, becomes the entry's settings."""

from collections.abc import Mapping
from functools import cache, partial
from typing import Any, cast

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from models.recipe import AUGMENTATIONS, LOSSES, OPTIMISERS
from models.table import Settings, Table
from orchestrator.config.reading import explain


def read_entry(table: Table, value: Any, default: str = "") -> Any:
    """The settings of the entry that `value` names. Raises ValueError; what is no mapping or name is left to others."""
    if isinstance(value, str):
        value = {table.key: value}
    if not isinstance(value, Mapping):
        return value
    name = value.get(table.key, default)
    if not isinstance(name, str) or not name:
        raise ValueError(f"needs a {table.what}'s {table.key}; known are {', '.join(table)}")
    kind = table.find(name).settings
    try:
        return adapter(kind).validate_python({**value, table.key: name})
    except ValidationError as error:
        raise ValueError(explain(error, kind)) from None


@cache
def adapter(kind: type[Settings]) -> TypeAdapter[Settings]:
    """Making one takes some milliseconds."""
    return TypeAdapter(kind)


def read_entries(table: Table, value: Any) -> Any:
    """The same for a mapping of names to settings."""
    if not isinstance(value, Mapping):
        return value
    found = {}
    for name, settings in value.items():
        if isinstance(settings, Settings):
            found[name] = settings
            continue
        table.find(str(name))
        found[name] = read_entry(table, {**(settings or {}), table.key: name})
    return found


def one_of(table: Table, default: str = "") -> BeforeValidator:
    """For a setting that names one row of a table, with the row's own settings."""
    return BeforeValidator(partial(read_entry, table, default=default))


def some_of(table: Table) -> BeforeValidator:
    """For a setting that maps names of a table's rows to their own settings."""
    return BeforeValidator(partial(read_entries, table))


RECIPE = {"augment": some_of(AUGMENTATIONS), "optimiser": one_of(OPTIMISERS, "sgd"), "loss": one_of(LOSSES, "kl")}
"""The recipe's settings that name rows of tables; models/recipe.py itself knows no validation library."""


def read_recipe(value: Any) -> Any:
    """A recipe with its entries read."""
    if not isinstance(value, Mapping):
        return value
    read = {}
    for name, part in value.items():
        try:
            read[name] = cast("Any", RECIPE[name].func)(part) if name in RECIPE else part
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return read
