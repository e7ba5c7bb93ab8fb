"""Tensors and training snapshots as safetensors files, which load without running code."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_numpy_file
from safetensors.torch import load_file, save_file
from torch import Tensor

from features.files import replacing
from models.fit import Snapshot
from orchestrator.errors import UserError
from orchestrator.storage.files import readable


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Raises OSError where the disk does not take them."""
    with replacing(path) as temporary:
        try:
            save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, metadata=metadata)
        except SafetensorError as error:  # its text has "(os error 28)"; it is no OSError
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Raises Unreadable where the file is damaged, as after a power cut."""
    with readable(path, SafetensorError):
        return load_file(path)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The same as NumPy's arrays, which Ray shares."""
    with readable(path, SafetensorError):
        return load_numpy_file(path)


def save_snapshot(path: Path, snapshot: Snapshot, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Model, optimiser and moving average as one safetensors file; its metadata have the rows until its epoch."""
    tensors = {f"model/{name}": value for name, value in snapshot.model.items()}
    tensors |= {f"optimiser/{name}": value for name, value in snapshot.optimiser.items()}
    tensors |= {f"moving/{name}": value for name, value in snapshot.moving.items()}
    save_tensors(path, tensors, {"epoch": str(snapshot.epoch), "rows": json.dumps(rows)})


def load_snapshot(path: Path) -> Snapshot:
    """Raises Unreadable where the file is damaged."""
    return load_training(path)[0]


def load_training(path: Path) -> tuple[Snapshot, list[Any]]:
    """A snapshot and the rows of the epochs until then. Raises UserError where the file is torn."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "moving": {}}
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            for key in file.keys():  # noqa: SIM118 - not a dict
                part, _, name = key.partition("/")
                parts[part][name] = file.get_tensor(key)
        return Snapshot(int(about["epoch"]), **parts), json.loads(about["rows"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"snapshot {path} cannot be read ({error}); give the same `stillhouse run` again, which makes it anew"
        ) from None


def snapshots_in(folder: Path) -> dict[int, Path]:
    """Epoch -> file, in epoch order."""
    return {int(path.stem.removeprefix("epoch-")): path for path in sorted(folder.glob("epoch-*.safetensors"))}


def snapshot_name(epoch: int) -> str:
    """The file's name of a snapshot at the end of an epoch."""
    return f"epoch-{epoch:04d}.safetensors"
