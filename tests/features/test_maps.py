"""The map of a feature set: each clip's features, in the file of this machine, made once and whole."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import caching, maps
from features.caching import map_folder, remove_idle
from features.corpus import TRAIN, Clip
from features.files import Keeper
from features.maps import FeatureMap, locate
from features.store import DamagedShard, Shard, write_shard
from tests.features.reading import load

SHAPE = (3, 5)  # (mel, frame)


def features_of(path: str) -> np.ndarray:
    return np.random.default_rng([*path.encode()]).random(SHAPE).astype(np.float16)


def write(file: Path, paths: Sequence[str], refused: Sequence[str] = ()) -> Path:
    """A shard; each clip's features are its own."""
    static = np.stack([features_of(path) for path in paths]) if paths else np.empty((0, *SHAPE), np.float16)
    write_shard(file, Shard(list(paths), list(paths), list(paths), static, dict.fromkeys(refused, "no samples")))
    return file


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "cache"))


@pytest.fixture
def shards(tmp_path) -> list[Path]:
    """Six shards of two clips each."""
    return [write(tmp_path / f"{number}.parquet", [f"{number}a", f"{number}b"]) for number in range(6)]


@pytest.fixture
def mapped(shards) -> FeatureMap:
    return locate([shards], SHAPE)[0]


def whole(shards: int = 6) -> np.ndarray:
    return np.stack([features_of(f"{number}{letter}") for number in range(shards) for letter in "ab"])


class Logging(Keeper):
    """Writes down which shards are asked for; may end the process at one."""

    def __init__(self, log: Path, deadly: str = "") -> None:
        self.log, self.deadly = log, deadly

    def pull(self, path: Path) -> None:
        if path.name == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        with self.log.open("a") as file:
            file.write(f"{path.name}\n")


# Which clip is where


@pytest.mark.parametrize("order", ["abcd", "dcba", "cadb"])
def test_clips_have_their_order_whatever_that_of_the_shards(tmp_path, order):
    files = [
        write(tmp_path / "1.parquet", "ac"),
        write(tmp_path / "2.parquet", "b"),
        write(tmp_path / "3.parquet", "d"),
    ]
    clips = [Clip(letter, "bus", TRAIN, letter) for letter in order]
    for given_files in (files, files[::-1]):
        loaded = load(given_files, clips, SHAPE)
        assert loaded.clips == tuple(clips)
        np.testing.assert_array_equal(loaded.static, np.stack([features_of(letter) for letter in order]))


def test_clips_in_quarantine_have_no_row_and_a_shard_of_such_alone_takes_no_room(tmp_path):
    files = [write(tmp_path / "1.parquet", [], ["bad"]), write(tmp_path / "2.parquet", ["b", "c"], ["worse"])]
    features, (row_of,) = locate([files], SHAPE)
    assert row_of == {"b": 0, "c": 1} and features.clips == (0, 2) and features.bytes == 2 * 2 * 3 * 5
    np.testing.assert_array_equal(features.open(), np.stack([features_of("b"), features_of("c")]))
    nothing, (row_of,) = locate([files[:1]], SHAPE)
    assert row_of == {} and nothing.open().shape == (0, *SHAPE)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=3))
def test_every_group_s_clips_are_where_their_rows_are(tmp_path_factory, sizes):
    """Groups are recordings and kinds of copies: the same paths, other features."""
    folder = tmp_path_factory.mktemp("groups")
    groups, expected = [], []
    for group, counts in enumerate(sizes):
        paths = [[f"{shard}-{row}" for row in range(count)] for shard, count in enumerate(counts)]
        files = []
        for shard, names in enumerate(paths):
            static = np.stack([features_of(f"{group} {name}") for name in names]) if names else np.empty((0, *SHAPE))
            files.append(folder / f"{folder.name}-{group}-{shard}.parquet")
            write_shard(files[-1], Shard(names, names, names, static.astype(np.float16), {}))
        groups.append(files)
        expected.append({name: features_of(f"{group} {name}") for names in paths for name in names})
    features, rows = locate(groups, SHAPE)
    values = features.open()
    assert len(values) == features.rows == sum(map(len, expected))
    assert [list(row_of) for row_of in rows] == [list(group) for group in expected]
    for row_of, group in zip(rows, expected, strict=True):
        for path, row in row_of.items():
            np.testing.assert_array_equal(values[row], group[path])


# The file


def test_the_file_holds_the_clips_one_after_another_and_nobody_can_write_to_it(mapped):
    values = mapped.open()
    np.testing.assert_array_equal(values, whole())
    assert values.dtype == np.float16 and values.flags.c_contiguous and not values.flags.writeable
    assert mapped.file.read_bytes() == whole().tobytes() and mapped.file.parent == map_folder()
    assert [file.suffix for file in sorted(map_folder().iterdir())] == [".f16", ".lock"]


def test_other_shards_and_another_shape_are_other_files(mapped, shards):
    others = [replace(mapped, shape=(5, 3)), locate([shards[1:]], SHAPE)[0], locate([shards[::-1]], SHAPE)[0]]
    assert len({one.file for one in (mapped, *others)}) == 4
    elsewhere = replace(mapped, shards=tuple(Path("/elsewhere") / shard.name for shard in shards))
    assert elsewhere.file == mapped.file


def test_it_is_made_once_and_progress_ends_with_all_rows(mapped, tmp_path):
    seen: list[tuple[int, int]] = []
    watched = replace(mapped, keeper=Logging(tmp_path / "log"))
    watched.open(lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 12) and seen[-1] == (12, 12) and seen == sorted(seen) and len(seen) == 7
    watched.open(lambda done, total: seen.append((done, total)))
    assert len(seen) == 7 and sorted((tmp_path / "log").read_text().split()) == sorted(s.name for s in mapped.shards)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_a_file_of_another_size_is_made_again(mapped, damage):
    mapped.open()
    mapped.file.write_bytes(damage(mapped.file.read_bytes()))
    np.testing.assert_array_equal(mapped.open(), whole())


OPENING = """
import sys
from pathlib import Path
from features.maps import locate
from tests.features.test_maps import SHAPE, Logging
folder, deadly = Path(sys.argv[1]), sys.argv[2]
shards = sorted(folder.glob("*.parquet"))
print(float(locate([shards], SHAPE, Logging(folder / "log", deadly))[0].open().sum(dtype="f8")))
"""


def opening(folder: Path, deadly: str = "") -> subprocess.Popen[str]:
    """Another process that opens the map."""
    return subprocess.Popen([sys.executable, "-c", OPENING, str(folder), deadly], stdout=subprocess.PIPE, text=True)


def test_processes_that_open_it_at_once_make_it_once(shards, tmp_path):
    processes = [opening(tmp_path) for _ in range(3)]
    sums = {process.communicate(timeout=120)[0] for process in processes}
    assert {float(text) for text in sums} == {whole().sum(dtype="f8")}
    assert sorted((tmp_path / "log").read_text().split()) == [shard.name for shard in shards]


def test_what_a_killed_process_has_done_is_not_done_again(mapped, tmp_path):
    process = opening(tmp_path, deadly="5.parquet")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert not mapped.file.exists()
    _, *done = mapped.file.with_suffix(".done").read_text().split()
    log = tmp_path / "second"
    np.testing.assert_array_equal(replace(mapped, keeper=Logging(log)).open(), whole())
    left = {shard.name for index, shard in enumerate(mapped.shards) if str(index) not in done}
    assert set(log.read_text().split()) == left and "5.parquet" in left
    assert [file.suffix for file in sorted(map_folder().iterdir())] == [".f16", ".lock"]


def begun(features: FeatureMap, *lines: str) -> None:
    """As a process leaves it that was killed before it wrote a byte, and says of some shards that it did."""
    map_folder().mkdir(parents=True, exist_ok=True)
    features.file.with_suffix(".part").write_bytes(bytes(features.bytes))
    features.file.with_suffix(".done").write_text("\n".join(lines) + "\n")


def test_what_was_done_before_a_power_cut_is_done_again(mapped):
    begun(mapped, "of another start of the machine", "0", "1")
    np.testing.assert_array_equal(mapped.open(), whole())


def test_what_was_done_since_the_machine_s_start_is_believed(mapped):
    begun(mapped, maps.boot(), "0", "4")
    expected = whole()
    expected[[0, 1, 8, 9]] = 0
    np.testing.assert_array_equal(mapped.open(), expected)


def test_without_a_number_of_the_start_nothing_is_believed(mapped, monkeypatch, tmp_path):
    monkeypatch.setattr(maps, "BOOT", tmp_path / "not there")
    begun(mapped, "", "0", "1")
    np.testing.assert_array_equal(mapped.open(), whole())


def test_a_line_that_was_cut_short_does_not_become_another_s(mapped, shards):
    begun(mapped, maps.boot(), "0", "1")
    record = mapped.file.with_suffix(".done")
    record.write_text(record.read_text() + "4")  # of "4" and the end of the line
    write(shards[5], ["only one"])
    with pytest.raises(DamagedShard):
        mapped.open()
    boot, *done = record.read_text().split()
    assert boot == maps.boot() and {"0", "1"} <= set(done) <= {"0", "1", "2", "3", "4"}
    assert len(done) == len(set(done))


class Removing(Keeper):
    """A person who empties the folder of maps, once, while a map is made; `then` is what another process does next."""

    def __init__(self, then) -> None:
        self.then, self.is_done = then, False

    def pull(self, path: Path) -> None:
        if path.name == "3.parquet" and not self.is_done:
            self.is_done = True
            for file in map_folder().iterdir():
                file.unlink()
            self.then()


def test_what_is_removed_while_it_is_made_is_made_again_whole(mapped):
    disturbed = replace(mapped, keeper=Removing(lambda: None))
    np.testing.assert_array_equal(disturbed.open(), whole())


def test_another_s_half_made_file_does_not_get_the_name(mapped):
    def begin() -> None:
        begun(mapped, "another start")

    np.testing.assert_array_equal(replace(mapped, keeper=Removing(begin)).open(), whole())


class Mirror(Keeper):
    """Shards come from elsewhere: what is not here is copied; a copy that is here counts as good."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def pull(self, path: Path) -> None:
        if not path.exists():
            shutil.copy(self.source / path.name, path)

    def pull_again(self, path: Path) -> bool:
        path.unlink()
        self.pull(path)
        return True


@pytest.mark.parametrize("is_original_good", [True, False])
def test_a_copy_that_is_damaged_is_fetched_again(mapped, shards, tmp_path, is_original_good):
    source = tmp_path / "source"
    source.mkdir()
    write(shards[2], ["2a", "2b", "and one more"])
    for shard in shards:
        shutil.copy(shard, source)
    features = replace(mapped, keeper=Mirror(source))
    if is_original_good:
        write(source / "2.parquet", ["2a", "2b"])
        np.testing.assert_array_equal(features.open(), whole())
    else:
        with pytest.raises(DamagedShard, match=r"2\.parquet is damaged \(3 clips in place of 2\)"):
            features.open()


def test_a_disk_that_is_full_in_the_middle_is_named(mapped, monkeypatch):
    def full(*_) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space") as caught:
        mapped.open()
    assert caught.value.filename == str(mapped.file)


def test_an_error_of_the_storage_keeps_its_text(mapped):
    class Unreachable(Keeper):
        def pull(self, path: Path) -> None:
            raise OSError("no answer from the bucket")

    with pytest.raises(OSError, match="^no answer from the bucket$"):
        replace(mapped, keeper=Unreachable()).open()


def test_a_shard_of_other_clips_than_were_counted_is_damaged_and_nothing_is_left_that_could_be_read(mapped, shards):
    write(shards[3], ["only one"])
    with pytest.raises(DamagedShard, match=r"3\.parquet is damaged \(1 clips in place of 2\)"):
        mapped.open()
    assert not mapped.file.exists()
    write(shards[3], ["3a", "3b"])
    np.testing.assert_array_equal(mapped.open(), whole())


# Room


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def of_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk for maps alone."""

    def usage(folder: Path) -> Disk:
        used = sum(file.stat().st_size for file in folder.glob("*.f16"))
        return Disk(size, used, size - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_without_room_it_is_one_error_that_says_what_to_do(mapped, monkeypatch):
    of_size(mapped.bytes - 1, monkeypatch)
    with pytest.raises(OSError, match="the features need .* GB there; make room, or set STILLHOUSE_MIRROR") as caught:
        mapped.open()
    assert caught.value.filename == str(map_folder())
    of_size(mapped.bytes, monkeypatch)
    np.testing.assert_array_equal(mapped.open(), whole())


def test_room_is_made_of_maps_that_nobody_has_open_the_longest_unused_first(shards, mapped, monkeypatch):
    parts = [locate([[shard]], SHAPE)[0] for shard in shards[:4]]
    opened = parts[1].open()
    for part in (*parts[:1], *parts[2:]):
        part.make()
    for age, part in enumerate(parts):
        os.utime(part.file, (1000 + age, 1000 + age))
    recent = locate([shards[4:5]], SHAPE)[0]
    recent.make()  # its run is perhaps between two stages
    of_size(mapped.bytes + 3 * parts[0].bytes, monkeypatch)  # two of four have to go, the second is in use
    mapped.make()
    assert [part.file.exists() for part in parts] == [False, True, False, True] and recent.file.exists()
    np.testing.assert_array_equal(opened, whole(2)[2:])


def test_what_was_not_opened_for_long_goes_with_what_killed_processes_have_left(mapped, shards, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 10_000.0)
    old, used = (locate([[shard]], SHAPE)[0] for shard in shards[:2])
    opened = used.open()
    for features in (old, mapped):
        features.make()
    part = map_folder() / "killed.part"
    part.write_bytes(b"x")
    for file, age in ((old.file, 101), (used.file, 101), (mapped.file, 99), (part, 101)):
        os.utime(file, (10_000 - age, 10_000 - age))
    remove_idle(100)
    assert [file.exists() for file in (old.file, used.file, mapped.file, part)] == [False, True, True, False]
    np.testing.assert_array_equal(opened, whole(2)[2:])


def test_opening_it_counts_as_use(mapped):
    mapped.make()
    os.utime(mapped.file, (1000, 1000))
    mapped.open()
    assert mapped.file.stat().st_mtime > 1e9


def test_a_lock_s_file_that_is_removed_while_one_waits_is_locked_anew(tmp_path):
    """Else two would hold two files of one name."""
    path = tmp_path / "x.lock"
    with caching.locked(path):
        waiting = threading.Thread(target=hold, args=(path, held := threading.Event(), release := threading.Event()))
        waiting.start()
        assert not held.wait(0.2)
        path.unlink()
    assert held.wait(120)
    with path.open("ab") as file, pytest.raises(BlockingIOError):
        caching.lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    release.set()
    waiting.join()


def hold(path: Path, held: threading.Event, release: threading.Event) -> None:
    with caching.locked(path):
        held.set()
        assert release.wait(120)
