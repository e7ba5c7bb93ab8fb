"""Shards of features on disk."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.corpus import CorpusError
from features.files import replacing

CLIPS_AT_A_TIME = 16  # that a map is made of: a shard of 128 whole takes four times its size to decode
BUFFER = 2**20  # bytes of a file that are read at a time
QUARANTINE = b"quarantine"  # key of a shard's schema metadata


class DamagedShard(CorpusError):
    """A file of features is not as it was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the shard {path} is damaged ({reason}); give the same `stillhouse run` again, which computes it anew"
        )
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type["DamagedShard"], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class Shard:
    """What one Parquet file of features holds. Rows keep the order in which the clips were given."""

    paths: list[str]
    digests: list[str]  # of each audio file's bytes
    notes: list[str]
    static: NDArray[np.float16]  # (clip, mel, frame)
    quarantine: dict[str, str]  # path -> reason


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard as one Parquet file, under a temporary name that is then replaced. Raises OSError."""
    count = len(shard.paths)
    size = shard.static[0].size if count else 1
    static = pa.FixedSizeListArray.from_arrays(pa.array(shard.static.reshape(-1), pa.float16()), size)
    table = pa.table(
        {"path": shard.paths, "digest": shard.digests, "notes": shard.notes, "static": static}
    ).replace_schema_metadata({QUARANTINE: json.dumps(shard.quarantine)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="none", use_dictionary=False, write_page_checksum=True)


def read_shard(path: Path, shape: tuple[int, int]) -> tuple[list[str], NDArray[np.float16]]:
    """The paths and the static channels (clip, mel, frame) of a shard whose clips are (mel, frame) = `shape`."""
    table = read_parquet(path, ["path", "static"]).combine_chunks()
    values = pa.concat_arrays([chunk.flatten() for chunk in table["static"].chunks] or [pa.array([], pa.float16())])
    return table["path"].to_pylist(), values.to_numpy(zero_copy_only=True).reshape(-1, *shape)


def read_static(path: Path, shape: tuple[int, int]) -> Iterator[NDArray[np.float16]]:
    """The static channels of a shard's clips, (some clips, mel, frame) at a time. Raises DamagedShard and OSError."""
    try:
        with opened(path) as file:
            for batch in file.iter_batches(CLIPS_AT_A_TIME, columns=["static"], use_threads=False):
                yield batch["static"].flatten().to_numpy(zero_copy_only=True).reshape(-1, *shape)
    except DamagedParquet as error:
        raise DamagedShard(path, str(error)) from None


def read_paths(path: Path) -> list[str]:
    """The paths of a shard's clips, in the order of its rows. Raises DamagedShard."""
    return read_parquet(path, ["path"])["path"].to_pylist()


def read_parquet(path: Path, columns: list[str]) -> pa.Table:
    """Raises DamagedShard, as after a power cut, and OSError where the disk cannot be read."""
    try:
        return parquet(path, columns)
    except DamagedParquet as error:
        raise DamagedShard(path, str(error)) from None


class DamagedParquet(ValueError):
    """A file is no Parquet, or a part of it is damaged; the message is the reason."""


def parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A table, or columns of it. Raises DamagedParquet, and OSError where the disk cannot be read."""
    with opened(path) as file:
        return file.read(columns)


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file, read little by little. Raises DamagedParquet, and OSError where the disk cannot be read."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=BUFFER, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, KeyError, ValueError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk; Arrow's own, of a damaged page, has no number
            raise
        raise DamagedParquet(" ".join(str(error).split())) from None


def is_whole(path: Path, values: int) -> bool:
    """Whether a file is a shard of clips with so many values each, by its footer and its index."""
    try:
        read_index(path)
        schema = pq.read_schema(path)
    except (DamagedShard, FileNotFoundError, KeyError, ValueError):
        return False
    kinds = [pa.list_(pa.float16(), size) for size in (values, 1)]  # 1 of a shard whose clips are all in quarantine
    return "static" in schema.names and schema.field("static").type in kinds


def read_index(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Everything but the features: path, digest and notes of each clip, and the quarantine."""
    table = read_parquet(path, ["path", "digest", "notes"])
    return table.to_pylist(), json.loads((table.schema.metadata or {})[QUARANTINE])
