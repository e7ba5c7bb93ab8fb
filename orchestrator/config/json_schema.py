"""The JSON schema of an experiment's file, for editors: what can be written where, and what it does.

A file may lack whatever the experiment that it extends has, so nothing is required but the names of tables' rows.
"""

import dataclasses
import typing
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, TypeAdapter

from models.table import Table
from orchestrator.config.entries import read_entries
from orchestrator.config.experiment import Experiment
from orchestrator.config.explained import comment, declared, is_union, unwrapped
from orchestrator.config.loading import BY_NAME, EXTENDS, SYSTEMS, presets

type Schema = dict[str, Any]

NULL: Schema = {"type": "null"}
OWN: Schema = {"type": "string", "pattern": "^[^:]+:[^:]+$"}  # package.module:Name, a row of the user's own
ALSO: dict[str, Schema] = {"corpus.groups": {"type": "string"}, "search.finalists": {"const": 0}}
"""What else a setting takes than its type says: "tau" or a file; 0 for none."""


def experiment_schema() -> Schema:
    """Of a file that `stillhouse run` takes, draft 2020-12."""
    own = {
        EXTENDS: {
            "anyOf": [{"enum": list(presets())}, {"type": "string"}],
            "description": "a preset, or a file beside this one, whose settings hold where this file has none",
        },
        SYSTEMS: {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "in place of all others: labels, each with its experiment",
        },
    }
    schema = of_class(Experiment, "")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Stillhouse experiment"}
    return head | schema | {"properties": own | schema["properties"]}


def of_class(kind: type, prefix: str) -> Schema:
    """A section, which has no other settings than the class has fields."""
    properties = {
        name: of_type(annotation, f"{prefix}{name}") | described(comment(kind, name))
        for name, annotation, _ in declared(kind)
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def of_type(annotation: Any, path: str) -> Schema:
    """A setting of that type; `path` is its dotted name."""
    kind, validator = unwrapped(annotation)
    table = validator.args[0] if isinstance(validator, partial) else None
    if isinstance(table, Table):
        return of_rows(table, path) if validator.func is read_entries else of_one_row(table, path, **validator.keywords)
    if path in ALSO:
        return any_of(of_kind(kind, annotation, path), ALSO[path])
    return of_kind(kind, annotation, path)


def of_kind(kind: Any, annotation: Any, path: str) -> Schema:
    """Of a mapping, a choice of types, a section or a plain value."""
    if typing.get_origin(kind) in (dict, Mapping):
        value = of_type(typing.get_args(kind)[1], f"{path}.NAME")
        return {"type": "object", "additionalProperties": any_of(value, NULL) if path in BY_NAME else value}
    if is_union(kind):
        return any_of(*(of_type(one, path) for one in typing.get_args(kind)))
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        return of_class(kind, f"{path}.")
    return TypeAdapter(annotation).json_schema()


def of_one_row(table: Table, path: str, default: str = "") -> Schema:
    """A row of the table, by its name alone, or with settings of its own; without a name it is the `default`."""
    rows = [
        row | {"required": [] if name == default else [table.key]}
        for name, entry in table.items()
        for row in [of_row(table, name, entry.settings, path)]
    ]
    own = {"type": "object", "properties": {table.key: OWN}, "required": [table.key]}
    return any_of({"enum": list(table)}, OWN, *rows, own)


def of_rows(table: Table, path: str) -> Schema:
    """Rows of the table by name, each with settings of its own, or null for those that it has."""
    rows = {name: any_of(of_row(table, name, entry.settings, path), NULL) for name, entry in table.items()}
    return {
        "type": "object",
        "properties": rows,
        "patternProperties": {OWN["pattern"]: any_of({"type": "object"}, NULL)},
        "additionalProperties": False,
    }


def of_row(table: Table, name: str, settings: type, path: str) -> Schema:
    """The settings of one row, in which the table's key has its name."""
    row = of_class(settings, f"{path}.")
    row["properties"][table.key] = {"const": name}
    return row


def any_of(*schemas: Schema) -> Schema:
    """One of them; what is such a choice itself becomes part of this one."""
    flat = [option for one in schemas for option in (one["anyOf"] if set(one) == {"anyOf"} else [one])]
    return {"anyOf": flat} if len(flat) > 1 else flat[0]


def described(text: str) -> Schema:
    return {"description": text} if text else {}
