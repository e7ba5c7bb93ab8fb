"""Shards and their manifest on disk, and the feature set in memory that many readers share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.corpus import Clip, CorpusError
from features.files import replacing

QUARANTINE = b"quarantine"  # key of a shard's schema metadata


class DamagedShard(CorpusError):
    """A file of features is not as it was written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the shard {path} is damaged ({reason}); give the same `stillhouse run` again, which computes it anew"
        )
        self.path = path


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
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns)
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


@dataclass(frozen=True)
class FeatureSet:
    """All usable clips: the table's rows and their static channel, in the same order."""

    clips: tuple[Clip, ...]
    static: NDArray[np.float16]  # (clip, mel, frame)

    def of_split(self, split: str) -> "FeatureSet":
        """The clips of one split, in their order."""
        rows = [row for row, clip in enumerate(self.clips) if clip.split == split]
        return FeatureSet(tuple(self.clips[row] for row in rows), self.static[rows])


def load(shards: Sequence[Path], clips: Sequence[Clip], shape: tuple[int, int]) -> FeatureSet:
    """Load the shards' features of `clips` (those in quarantine have none) as one array."""
    row_of: dict[str, int] = {}
    parts = [read_shard(path, shape) for path in shards]
    for row, path in enumerate(path for paths, _ in parts for path in paths):
        row_of[path] = row
    usable = tuple(clip for clip in clips if clip.path in row_of)
    everything = np.concatenate([static for _, static in parts])
    return FeatureSet(usable, everything[[row_of[clip.path] for clip in usable]])
