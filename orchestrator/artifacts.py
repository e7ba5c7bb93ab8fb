"""Finished results, kept under a key of what made them: a folder each, published whole or not at all.

Only formats that load without running code: JSON, Parquet, safetensors.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from features.store import replacing
from models.fit import Snapshot
from orchestrator.errors import UserError


class Store:
    """Artifacts and work in progress below one storage folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def check_writable(self) -> None:
        """Raises UserError where nothing can be written."""
        try:
            probe = self.root / f".probe-{os.getpid()}"
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"storage {self.root} cannot be written: {error.strerror}; choose another --storage"
            ) from None

    @property
    def shards(self) -> Path:
        """Feature shards are named after their content, so all feature sets share one folder."""
        return self.root / "shards"

    def finished(self, kind: str, key: str) -> Path | None:
        folder = self.root / "artifacts" / kind / key
        return folder if folder.is_dir() else None

    def work(self, kind: str, key: str) -> Path:
        """A folder for what must survive an interruption until the artifact is finished."""
        folder = self.root / "work" / kind / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Path]:
        """Yield a folder to fill; on success it becomes the artifact in one step."""
        target = self.root / "artifacts" / kind / key
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{key}.{os.getpid()}.tmp")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Raises OSError where the disk does not take them."""
    with replacing(path) as temporary:
        try:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata=metadata)
        except SafetensorError as error:  # it says "(os error 28)" instead of raising OSError
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Model and momentum in one safetensors file, the epoch in its metadata."""
    tensors = {f"model/{name}": value for name, value in snapshot.model.items()}
    tensors |= {f"momentum/{name}": value for name, value in snapshot.momentum.items()}
    save_tensors(path, tensors, {"epoch": str(snapshot.epoch)})


def load_snapshot(path: Path) -> Snapshot:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}}
    try:
        with safe_open(path, framework="pt") as file:
            epoch = int(file.metadata()["epoch"])
            for key in file.keys():  # noqa: SIM118 - not a dict
                part, _, name = key.partition("/")
                parts[part][name] = file.get_tensor(key)
    except SafetensorError as error:
        raise UserError(f"snapshot {path} cannot be read ({error}); delete it to train from the one before") from None
    return Snapshot(epoch, parts["model"], parts["momentum"])


def snapshots_in(folder: Path) -> dict[int, Path]:
    """Epoch -> file, in epoch order."""
    return {int(path.stem.removeprefix("epoch-")): path for path in sorted(folder.glob("epoch-*.safetensors"))}


def snapshot_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"
