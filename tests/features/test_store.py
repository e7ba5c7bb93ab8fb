"""Shards on disk, bit for bit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from features.corpus import TRAIN, Clip, CorpusError
from features.files import replacing
from features.store import Shard, is_whole, read_index, read_shard, write_shard

SHAPE = (3, 5)  # (mel, frame)


def shard(*paths: str, quarantine: dict[str, str] | None = None) -> Shard:
    """Each clip's features are its own: `features_of`."""
    static = np.stack([features_of(path) for path in paths]) if paths else np.empty((0, *SHAPE), np.float16)
    return Shard(
        list(paths), [f"digest of {path}" for path in paths], [f"note on {path}" for path in paths],
        static, quarantine or {},
    )  # fmt: skip


def features_of(path: str) -> np.ndarray:
    return np.random.default_rng([*path.encode()]).random(SHAPE).astype(np.float16)


def clips_of(*paths: str) -> list[Clip]:
    return [Clip(path, "bus", TRAIN, path) for path in paths]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# A shard


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(npst.arrays(np.uint16, st.tuples(st.integers(1, 4), st.just(3), st.just(5))))
def test_float16_comes_back_bit_for_bit(tmp_path, bits):
    """Any bits: zeros of both signs, the smallest numbers, infinities, every NaN."""
    paths = [f"{row}.wav" for row in range(len(bits))]
    write_shard(tmp_path / "one.parquet", Shard(paths, paths, paths, bits.view(np.float16), {}))
    got_paths, static = read_shard(tmp_path / "one.parquet", SHAPE)
    assert got_paths == paths
    assert static.dtype == np.float16 and static.shape == bits.shape
    np.testing.assert_array_equal(static.view(np.uint16), bits)


def test_a_shard_is_plain_parquet_of_half_floats(tmp_path):
    written = shard("a/ä.wav", "b.wav", quarantine={"ü.wav": "the file is empty"})
    write_shard(tmp_path / "one.parquet", written)
    table = pq.read_table(tmp_path / "one.parquet")
    assert table.column_names == ["path", "digest", "notes", "static"]
    assert table.schema.field("static").type.value_type == pa.float16()
    assert table["digest"].to_pylist() == written.digests
    np.testing.assert_array_equal(np.array(table["static"].to_pylist(), np.float16), written.static.reshape(2, -1))


def test_the_index_is_everything_but_the_features(tmp_path):
    quarantine = {"böse/1.wav": 'truncated: "so to speak"', "2.wav": "the file is empty"}
    write_shard(tmp_path / "one.parquet", shard("b.wav", "a.wav", quarantine=quarantine))
    rows, refused = read_index(tmp_path / "one.parquet")
    assert rows == [
        {"path": "b.wav", "digest": "digest of b.wav", "notes": "note on b.wav"},
        {"path": "a.wav", "digest": "digest of a.wav", "notes": "note on a.wav"},
    ]
    assert refused == quarantine and list(refused) == list(quarantine)


def test_a_shard_of_bad_clips_alone(tmp_path):
    write_shard(tmp_path / "one.parquet", shard(quarantine={"1.wav": "no samples"}))
    paths, static = read_shard(tmp_path / "one.parquet", SHAPE)
    assert paths == [] and static.shape == (0, *SHAPE) and static.dtype == np.float16
    assert read_index(tmp_path / "one.parquet") == ([], {"1.wav": "no samples"})


@pytest.mark.parametrize("kept", [0, 100])
def test_a_damaged_shard_is_one_line_with_its_name(tmp_path, kept):
    path = tmp_path / "one.parquet"
    write_shard(path, Shard([], [], [], np.zeros((0, *SHAPE), np.float16), {"1.wav": "no samples"}))
    path.write_bytes(path.read_bytes()[:kept])
    for read in (read_index, lambda path: read_shard(path, SHAPE)):
        with pytest.raises(CorpusError, match=f"^the shard {path} is damaged .* which computes it anew$"):
            read(path)


def test_the_same_shard_is_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_shard(tmp_path / name, shard("a.wav", "b.wav", quarantine={"c.wav": "no samples"}))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_shard_takes_the_place_of_another_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "deep" / "one.parquet"
    write_shard(target, shard("a.wav"))
    write_shard(target, shard("b.wav"))
    assert read_shard(target, SHAPE)[0] == ["b.wav"]
    assert names(target.parent) == ["one.parquet"]


# Replacing


def test_replacing_shows_the_new_file_only_when_it_is_whole(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with replacing(target) as temporary:
        assert temporary.parent == tmp_path  # one file system: the rename is one step
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_replacing_keeps_the_old_file_on_failure(tmp_path, failure):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(failure), replacing(target) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_replacing_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path / "new") == []


def test_a_shard_that_cannot_be_written_leaves_the_old_one(tmp_path):
    target = tmp_path / "one.parquet"
    write_shard(target, shard("a.wav"))
    uneven = Shard(["a.wav", "b.wav"], ["only one digest"], ["", ""], np.zeros((2, *SHAPE), np.float16), {})
    with pytest.raises(pa.ArrowInvalid):
        write_shard(target, uneven)
    assert read_shard(target, SHAPE)[0] == ["a.wav"]
    assert names(tmp_path) == ["one.parquet"]


# The feature set


@pytest.fixture
def shards(tmp_path) -> list[Path]:
    """c and d are in one shard with a bad clip, nothing good in the second, a and b in the third."""
    contents = [
        shard("d.wav", "c.wav", quarantine={"bad.wav": "no samples"}),
        shard(quarantine={"worse.wav": "the file is empty"}),
        shard("a.wav", "b.wav"),
    ]
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        write_shard(path, content)
    return paths


def test_a_shard_is_whole_or_not(tmp_path):
    file = tmp_path / "shard.parquet"
    write_shard(file, Shard(["a"], ["1"], [""], np.zeros((1, 4, 5), np.float16), {}))
    whole = file.read_bytes()
    assert is_whole(file, 20) and not is_whole(file, 21)
    for damaged in (b"", whole[:-10], whole[: len(whole) // 2], b"PAR1" + whole[4:-4] + b"XXXX"):
        file.write_bytes(damaged)
        assert not is_whole(file, 20)
    pq.write_table(pa.table({"path": ["a"]}), file)  # another table
    assert not is_whole(file, 20)
    assert not is_whole(tmp_path / "none.parquet", 20)


def test_a_page_that_is_not_as_it_was_written_is_noticed(tmp_path):
    file = tmp_path / "shard.parquet"
    write_shard(file, Shard(["a"], ["1"], [""], np.full((1, 4, 5), 7, np.float16), {}))
    content = file.read_bytes()
    place = content.index(np.float16(7).tobytes() * 20)
    file.write_bytes(content[:place] + b"\1" + content[place + 1 :])
    with pytest.raises(CorpusError, match="is damaged .* which computes it anew"):
        read_shard(file, (4, 5))
