"""Whether an artifact is as it was published: its stage.json has the size and the digest of every other file."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from orchestrator.errors import Unreadable
from orchestrator.storage.files import read_json, write_json

FILES = "files"  # key of stage.json: name -> [bytes, digest]
SEAL = "seal"  # key of stage.json: the digest of all its other values
READ = 2**20  # bytes at a time


def seal(folder: Path, record: str) -> None:
    """Add every file of the folder to its `record`, if it has one: the last file to be written."""
    file = folder / record
    if file.exists():
        about = {**read_json(file), FILES: contents(folder, record)}
        write_json(file, {**about, SEAL: seal_of(about)})


def seal_of(about: Mapping[str, Any]) -> str:
    """Digest of a record's values but the seal itself."""
    rest = {name: value for name, value in about.items() if name != SEAL}
    return xxhash.xxh3_64_hexdigest(json.dumps(rest, sort_keys=True).encode())


def damage_of(folder: Path, record: str) -> str | None:
    """What a power cut or a person has done to the folder, in words; None where it is whole.

    Raises OSError where the disk cannot be read, and FileNotFoundError where there is no record.
    """
    try:
        about: Any = read_json(folder / record)
    except Unreadable:
        return f"{record} is no JSON"
    if not isinstance(about, dict):
        return f"{record} is no mapping"
    expected = about.get(FILES)
    if not isinstance(expected, dict):
        return f"{record} has no list of files"
    if about.get(SEAL) != seal_of(about):
        return f"{record} is not as it was written"
    found = contents(folder, record)  # an error of the disk is none of the artifact's: it passes through
    for name, about_file in expected.items():
        if found.get(name) != about_file:
            return f"{name} is {'not as it was written' if name in found else 'missing'}"
    return None


def contents(folder: Path, record: str) -> dict[str, list[Any]]:
    """Name -> [bytes, digest] of every file below the folder but the record itself and hidden files."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    names = {file.relative_to(folder).as_posix(): file for file in files}
    found = dict[str, list[Any]]()
    for name, file in names.items():
        if name != record:
            with suppress(FileNotFoundError):  # gone meanwhile: it is missing
                found[name] = [file.stat().st_size, digest_of(file)]
    return found


def digest_of(file: Path) -> str:
    """xxh3, at the speed of the memory: against accidents, not against forgery."""
    digest = xxhash.xxh3_64()
    with file.open("rb") as content:
        while part := content.read(READ):
            digest.update(part)
    return digest.hexdigest()
