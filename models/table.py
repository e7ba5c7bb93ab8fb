"""Tables from a name to an implementation, from which a setting chooses. A new one is one file and one row.

A table holds strings instead of classes, so that a config is checked without importing torch.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, ClassVar


class Settings:
    """Base of an entry's own settings, a frozen dataclass. The field named by the table's key is the entry's name."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # a misspelt setting is an error


@dataclass(frozen=True)
class Entry:
    """A row of a table."""

    settings: type[Settings]
    implementation: str  # "module:Name"


class Table(dict[str, Entry]):
    """Name -> entry. A name of the form "package.module:Name" is a user's own implementation.

    The attribute `Settings` of a user's own implementation is the class of its settings.

    `key` is the field of the settings that holds the name. The code of an entry counts in the keys of what uses that
    entry and of nothing else (orchestrator/code.py).
    """

    def __init__(self, what: str, rows: Mapping[str, Entry], key: str = "name") -> None:
        super().__init__(rows)
        self.what, self.key = what, key

    def find(self, name: str) -> Entry:
        """Raises ValueError where there is no such entry, or where a user's own cannot be imported."""
        if name in self:
            return self[name]
        if ":" not in name:
            near = get_close_matches(name, self, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(self)}, or package.module:Name"
            raise ValueError(f"no {self.what} '{name}'; {hint}")
        settings = getattr(imported(name), "Settings", None)
        if not (isinstance(settings, type) and issubclass(settings, Settings) and is_dataclass(settings)):
            raise ValueError(
                f"{self.what} {name}: its attribute Settings must be a dataclass that extends models.table.Settings"
            )
        if self.key not in {field.name for field in fields(settings)}:
            raise ValueError(f"{self.what} {name}: its Settings need a field '{self.key}: str = \"{name}\"'")
        return Entry(settings, name)

    def name_of(self, settings: Settings) -> str:
        """The row that an entry's settings are of."""
        return getattr(settings, self.key)

    def implementation(self, settings: Settings) -> Any:
        """What the settings choose."""
        return imported(self.find(self.name_of(settings)).implementation)


def imported(name: str) -> Any:
    """The object that "package.module:Name" names. Raises ValueError where it cannot be imported."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} cannot be imported: {error}") from None
