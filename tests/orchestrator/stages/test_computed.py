"""Features that are missing are computed, and only those; what stands for them changes with what made them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile

from features.corpus import TRAIN
from features.precompute import precompute
from features.store import DamagedShard
from models.seeding import derive
from orchestrator.stages import computed as computed_module
from orchestrator.stages.computed import compute, with_whole_shards


def test_progress_counts_every_clip_and_what_is_there_is_not_computed_again(small, store):
    config = small("copies.kinds=[noise]", "student.copies=true")
    seen: list[tuple[int, int]] = []
    first = compute(config, store, lambda done, total: seen.append((done, total)), parallel=False)
    training = sum(clip.split == TRAIN for clip in first.clips)
    assert seen[0] == (0, len(first.clips) + training) and seen[-1] == (len(first.clips) + training,) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    times = {file: file.stat().st_mtime_ns for file in store.shards.iterdir()}
    again = compute(config, store, parallel=False)
    assert (again.key(), again.recordings_key()) == (first.key(), first.recordings_key())
    assert {file: file.stat().st_mtime_ns for file in store.shards.iterdir()} == times


@pytest.mark.parametrize(("name", "shards_differ"), [("arithmetic", True), ("code_of", True), ("libraries", False)])
def test_another_arithmetic_code_or_library_makes_another_key(small, store, monkeypatch, name, shards_differ):
    """Shards are named by libraries where they are planned."""
    first = compute(small(), store, parallel=False)
    before = first.key()
    monkeypatch.setattr(computed_module, name, lambda *_: "another")
    other = compute(small(), store, parallel=False)
    assert set(other.manifest.shards).isdisjoint(first.manifest.shards) is shards_differ
    assert other.key() != before and other.manifest.data_hash == first.manifest.data_hash


def test_responses_are_measured_again_where_a_recording_has_changed(small, store, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "own")
    config = small("spectrum.correct=true", f"corpus.root={tmp_path / 'own'}")
    compute(config, store, parallel=False)
    before = set(store.shards.glob("responses-*"))
    computed = compute(config, store, parallel=False)
    assert set(store.shards.glob("responses-*")) == before and len(before) == 1
    changed = next(clip.path for clip in computed.clips if clip.device == "b" and clip.split == TRAIN)
    soundfile.write(tmp_path / "own" / changed, soundfile.read(tmp_path / "own" / changed)[0] / 2, 44_100)
    compute(config, store, parallel=False)
    assert len(set(store.shards.glob("responses-*")) - before) == 1


def test_responses_are_kept_in_the_storage_and_measured_again_where_they_are_damaged(small, store, monkeypatch):
    config, told, moved = small("spectrum.correct=true"), list[str](), list[tuple[str, Path]]()
    store.tell = told.append
    for name in ("push", "pull"):
        monkeypatch.setattr(store, name, lambda path, *_, name=name: moved.append((name, path)))
    first = compute(config, store, parallel=False)
    (file,) = store.shards.glob("responses-*")
    whole = file.read_bytes()
    assert ("push", file) in moved and ("pull", file) not in moved
    file.write_bytes(whole[: len(whole) // 2])
    again = compute(config, store, parallel=False)
    assert ("pull", file) in moved and file.read_bytes() == whole and again.key() == first.key()
    assert len(told) == 1 and told[0].startswith("  devices' responses are measured again: ") and str(file) in told[0]


def test_responses_of_another_front_end_or_other_code_are_others(small, store, monkeypatch):
    usual = "spectrum.correct=true"
    for count, settings in ((1, [usual]), (2, [usual, "features.n_fft=1024"]), (2, [usual])):
        compute(small(*settings), store, parallel=False)
        assert len(list(store.shards.glob("responses-*"))) == count
    monkeypatch.setattr(computed_module, "basis", lambda *_: ["other code"])
    compute(small(usual), store, parallel=False)
    assert len(list(store.shards.glob("responses-*"))) == 3


@pytest.fixture
def given(monkeypatch) -> list[Any]:
    """What each part is computed with: whether on the cluster, its copy, and the correction."""
    calls: list[Any] = []

    def noted(*values: Any) -> Any:
        calls.append(values[5:8])
        return precompute(*values)

    monkeypatch.setattr(computed_module, "precompute", noted)
    return calls


def test_copies_are_made_by_a_seed_of_their_own_and_with_responses_only_where_they_need_them(small, store, given):
    seen: list[int] = []
    config = small("copies.kinds=[noise, dir]", "student.copies=true")
    computed = compute(config, store, lambda done, total: seen.append(done))
    assert computed.correction is None and seen == sorted(seen)
    assert [(parallel, correction) for parallel, _, correction in given] == [(True, None)] * 3
    recordings, noise, impulses = (copy for _, copy, _ in given)
    assert recordings is None and (noise.kind, noise.responses, impulses.kind) == ("noise", None, "dir")
    assert {"b", "c"} <= impulses.responses.of.keys()
    assert noise.seed == impulses.seed == derive(0, "copies")


def test_a_damaged_shard_is_computed_again_in_this_process(small, store, given):
    file = store.shards / compute(small(), store, parallel=False).manifest.shards[0]
    damaged = [DamagedShard(file, "a torn page")]
    given.clear()

    def read() -> str:
        if damaged:
            raise damaged.pop()
        return "whole"

    assert with_whole_shards(small(), store, read) == "whole" and file.exists()
    assert [parallel for parallel, *_ in given] == [False]
