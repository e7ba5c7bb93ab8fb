"""Keys that stand for values."""

import dataclasses
import hashlib
import json
from typing import Any

from pydantic import BaseModel


def key_of(*values: Any) -> str:
    """16 hex digits that identify values: models, dataclasses and plain JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return value

    text = json.dumps([plain(value) for value in values], sort_keys=True, default=plain)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def folder_name(name: str, settings: Any) -> str:
    """Of a run, or of a table of runs: the same settings have the same folder."""
    return f"{name}-{key_of(settings)[:8]}"
