"""From a corpus to the splits that are trained on, in this process: what is where, and what is refused."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from rich.console import Console

from features.audio import read
from features.caching import map_folder
from features.corpus import CorpusError
from features.frontend import static_channel
from features.spectrum import corrected
from orchestrator.errors import UserError
from orchestrator.monitor.view import View
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Context
from orchestrator.stages.cuts import load_cuts, located, prepare, start_making, wait_for
from orchestrator.stages.features import run
from orchestrator.stages.near_copies import read_near_copies
from orchestrator.training.data import Split
from orchestrator.training.inputs import tensor

DEVICES = {"a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6"}


def static_of(split: Split) -> NDArray[np.float16]:
    """(clip, mel, frame)."""
    static = split.features.open()
    return static.values[static.rows].numpy()


def official(corpus, split: str) -> set[str]:
    with (corpus / "evaluation_setup" / f"fold1_{split}.csv").open(encoding="utf-8") as file:
        return {row["filename"] for row in csv.DictReader(file, delimiter="\t")}


def test_splits_hold_the_official_clips_less_the_bad_ones_and_validation_shares_no_location(small, store, corpus):
    config = small()
    computed = compute(config, store, parallel=False)
    data = load_cuts(config, computed, store)[0]
    bad = set(data.quarantine)
    assert len(bad) == 2 and all(path.startswith("audio/bus-") for path in bad)
    assert set(data.test.paths) == official(corpus, "test")
    assert set(data.train.paths) | set(data.validation.paths) == official(corpus, "train") - bad
    place = {clip.path: clip.location for clip in computed.clips}
    places = [{place[path] for path in split.paths} for split in (data.train, data.validation, data.test)]
    assert not places[0] & places[1] and not places[0] & places[2] and not places[1] & places[2]
    assert set(data.test.devices) == DEVICES and set(data.train.devices) <= DEVICES - {"s4", "s5", "s6"}
    scenes = config.corpus.taxonomy.scenes
    for split in (data.train, data.validation, data.test):
        assert [scenes[index] for index in split.scene] == [path.split("/")[1].split("-")[0] for path in split.paths]
        assert split.recordings == len(split.paths) == len(split.features)


def test_static_channels_are_the_front_end_s_of_each_clip(small, store, corpus):
    config = small()
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    for row in (0, len(data.test.paths) - 1):
        recording = read(corpus / data.test.paths[row], config.features.sample_rate, config.features.clip_seconds)
        expected = static_channel(tensor(recording.samples), config.features).half().numpy()
        np.testing.assert_array_equal(static_of(data.test)[row], expected)


def test_copies_follow_the_training_clips_and_make_another_key(small, store):
    config = small("copies.kinds=[noise]", "student.copies=true")
    computed = compute(config, store, parallel=False)
    data = load_cuts(config, computed, store)[0]
    plain = compute(small(), store, parallel=False)
    assert computed.recordings_key() == data.recordings_key == plain.recordings_key() == plain.key() != computed.key()
    count = data.train.recordings
    assert data.train.paths[count:] == data.train.paths[:count]
    assert data.validation.recordings == len(data.validation)
    difference = np.abs(static_of(data.train)[count:].astype(np.float32) - static_of(data.train)[:count])
    assert (difference.reshape(count, -1).max(1) > 0).all()
    bad_copies = {path for path in data.quarantine if path.endswith(" (noise)")}
    assert not bad_copies  # a clip that is bad itself is named once


def test_corrected_recordings_are_those_divided_by_the_device_s_response(small, store, corpus):
    config = small("spectrum.correct=true")
    computed = compute(config, store, parallel=False)
    data = load_cuts(config, computed, store)[0]
    assert (
        set(data.responses) >= {"b", "c"}
        and computed.recordings_key() != compute(small(), store, parallel=False).recordings_key()
    )
    row = data.test.devices.index("b")
    recording = read(corpus / data.test.paths[row], config.features.sample_rate, config.features.clip_seconds)
    samples = corrected(recording.samples, np.array(data.responses["b"], np.float32))
    np.testing.assert_array_equal(
        static_of(data.test)[row], static_channel(tensor(samples), config.features).half().numpy()
    )
    files = list(store.shards.glob("responses-*"))
    written = files[0].stat().st_mtime_ns
    again = compute(config, store, parallel=False)
    assert len(files) == 1 and files[0].stat().st_mtime_ns == written
    assert again.correction is not None and computed.correction is not None
    assert again.key() == computed.key()


def test_a_split_that_the_quarantine_has_emptied_is_one_line(small, store):
    config = small()
    computed = compute(config, store, parallel=False)
    for split in ("train", "validation", "test"):
        left = [clip for clip in computed.clips if clip.split != split]
        with pytest.raises(UserError, match=f"every clip of the {split} split is in quarantine; quarantine.csv"):
            load_cuts(config, replace(computed, tables={"": left}), store)[0]


def test_a_scene_without_a_usable_training_or_validation_clip_is_one_line(small, store):
    config = small()
    computed = compute(config, store, parallel=False)
    for split in ("train", "validation"):
        left = [clip for clip in computed.clips if (clip.split, clip.scene) != (split, "tram")]
        with pytest.raises(UserError, match=f"the {split} split has no usable clip of scene 'tram'"):
            load_cuts(config, replace(computed, tables={"": left}), store)[0]
    left = [clip for clip in computed.clips if (clip.split, clip.scene) != ("test", "tram")]
    assert load_cuts(config, replace(computed, tables={"": left}), store)[0].test.recordings > 0


@pytest.mark.integration
@pytest.mark.usefixtures("ray_cluster")
def test_the_stage_publishes_the_manifests_once(small, store):
    text = io.StringIO()
    context = Context(
        small("copies.kinds=[noise]", "student.copies=true"), store, View(Console(file=text, width=200)), "run"
    )
    for file in map_folder().glob("*"):  # of another test with the same recordings
        file.unlink()
    computed, folder = run(context)
    assert folder == store.root / "artifacts" / "features" / computed.key()
    names = ["manifest-noise.json", "manifest.json", "near_copies.json", "stage.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert read_near_copies(folder) == [] and "near copies" not in text.getvalue()
    assert (folder / "manifest.json").read_text() == computed.manifest.to_json()
    assert (folder / "manifest-noise.json").read_text() == computed.copies["noise"].to_json()
    stage = json.loads((folder / "stage.json").read_text())
    assert stage["clips"] == computed.manifest.clips and stage["seconds"] >= 0
    assert f"{computed.manifest.clips} clips, 2 quarantined, copies: noise" in text.getvalue()
    assert not list(store.root.glob("work/features/*/*"))
    times = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again, same = run(context)
    assert same == folder and again.key() == computed.key()
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == times


@pytest.mark.integration
@pytest.mark.usefixtures("ray_cluster")
def test_every_node_makes_its_map(small, store):
    config = small("features.clip_seconds=1.1")  # a map that no other test has made
    features, _ = located(config, compute(config, store), store)
    nodes = ray.nodes()
    making = start_making(features, nodes)
    wait_for(making)
    assert list(making) == [node["NodeManagerHostname"] for node in nodes]
    made: list[tuple[int, int]] = []
    features.open(lambda *progress: made.append(progress))
    assert made == []  # nothing is left to make


def torn(file: Path) -> None:
    """Another byte in the middle of the features; the footer and the index are whole."""
    data = file.read_bytes()
    place = len(data) // 2
    file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_a_shard_with_a_torn_page_is_computed_again_when_it_is_read(small, store):
    config, told = small(), list[str]()
    store.tell = told.append
    computed = compute(config, store, parallel=False)
    (before,) = load_cuts(config, computed, store)
    expected = static_of(before.test)
    before.test.features.map.file.unlink()
    files = [store.shards / name for name in computed.manifest.shards]
    whole = {file: file.read_bytes() for file in files}
    for file in files:
        torn(file)
    computed = compute(config, store, parallel=False)
    prepare(config, computed, store)
    (data,) = load_cuts(config, computed, store)
    assert told == [f"  shards/{file.name} is damaged and is computed again" for file in files]
    assert {file: file.read_bytes() for file in files} == whole
    assert np.array_equal(static_of(data.test), expected) and data.key == before.key


def test_a_shard_that_is_torn_whenever_it_is_read_ends_in_a_line(small, store, monkeypatch):
    config = small()
    computed = compute(config, store, parallel=False)
    file = store.shards / computed.manifest.shards[0]
    located(config, computed, store)[0].file.unlink(missing_ok=True)  # of another test with the same recordings
    monkeypatch.setattr("orchestrator.stages.computed.compute", lambda *_, **__: None)
    monkeypatch.setattr(store, "remove", lambda _: None)
    torn(file)
    with pytest.raises(CorpusError, match=r"the shard .* is damaged .*give the same `stillhouse run` again"):
        prepare(config, computed, store)
