"""From a corpus to the splits that are trained on, in this process: what is where, and what is refused."""

import csv
import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import soundfile
from numpy.typing import NDArray
from rich.console import Console

from features.audio import read
from features.caching import map_folder
from features.corpus import TRAIN, CorpusError
from features.cuts import cut_validation
from features.frontend import static_channel
from features.spectrum import corrected
from models.seeding import derive
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.monitor import view as view_module
from orchestrator.monitor.view import View
from orchestrator.stages.check import check_corpus
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Context
from orchestrator.stages.corpus import check, layout_of, needs_responses, require_scenes, tables_of
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


def test_shards_of_another_arithmetic_are_others_and_so_is_what_is_made_of_them(small, store, monkeypatch):
    first = compute(small(), store, parallel=False)
    monkeypatch.setattr("orchestrator.stages.computed.arithmetic", lambda: "of the CPU")
    other = compute(small(), store, parallel=False)
    assert not set(other.manifest.shards) & set(first.manifest.shards)
    assert other.key() != first.key() and other.manifest.data_hash == first.manifest.data_hash


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


def test_what_is_fitted_on_is_training(small):
    clips = tables_of(small())[""]
    total = tables_of(small("corpus.fit_on=[train, validation]", "student.weights=[1, 1]"))[""]
    assert {clip.split for clip in total} == {"train", "test"}
    moved = [replace(clip, split=TRAIN) if clip.split == "validation" else clip for clip in clips]
    assert sorted(total, key=lambda clip: clip.path) == sorted(moved, key=lambda clip: clip.path)


def test_another_seed_cuts_another_validation_split(small):
    def validation(seed: int) -> set[str]:
        return {clip.path for clip in tables_of(small(f"seed={seed}"))[""] if clip.split == "validation"}

    assert validation(0) == validation(0)
    assert len({frozenset(validation(seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ([], False),
        (["copies.kinds=[noise]", "student.copies=true"], False),
        (["copies.kinds=[dir]", "student.copies=true"], True),
        (["spectrum.correct=true"], True),
    ],
)
def test_responses_are_measured_where_something_uses_them(small, settings, needed):
    assert needs_responses(small(*settings)) is needed
    assert check(small(*settings))


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


def test_a_scene_without_a_clip_is_named_with_its_split_and_fold(small):
    config = small()
    clips = [clip for clip in tables_of(config)[""] if (clip.split, clip.scene) != ("validation", "tram")]
    with pytest.raises(CorpusError, match=r"^the validation split has no clip of scene 'tram'$"):
        require_scenes(config, clips, "")
    with pytest.raises(CorpusError, match=r"^the validation split of fold2 has no clip of scene 'tram'$"):
        require_scenes(config, clips, "fold2")


def checked(config: Experiment, decode: bool) -> tuple[int, list[str]]:
    text = io.StringIO()
    code = check_corpus(config, decode, View(Console(file=text, width=400, soft_wrap=True)))
    return code, text.getvalue().splitlines()


def test_validation_is_cut_by_a_seed_of_its_own(small, corpus):
    """Another one would cut every run's validation split anew."""
    config = small()
    clips = layout_of(config).read(corpus, config.corpus.taxonomy)
    own = cut_validation(clips, config.corpus.validation_fraction, derive(config.seed, "validation"))
    assert [clip.split for clip in tables_of(config)[""]] == [clip.split for clip in own]
    assert derive(0, "validation") == 4042900271888715735


def test_check_shows_how_far_it_is_and_what_was_done_to_recordings(small, monkeypatch):
    monkeypatch.setattr(view_module, "PLAIN_INTERVAL", -1.0)
    config = small("features.clip_seconds=0.5", "student.recipe.crop_frames=8")
    count = len(tables_of(config)[""])
    _, lines = checked(config, decode=True)
    shown = [line.partition("  ")[2].split("  ")[-1] for line in lines if line.startswith("  decode:")]
    assert shown == [f"{done} of {count} recordings" for done in range(count)]
    assert any(line.startswith(f"{count - 2} recordings: cut to ") for line in lines), lines[-5:]


def test_check_shows_what_is_not_read(small, corpus):
    (corpus / "audio" / "extra.m4a").touch()
    try:
        code, lines = checked(small(), decode=False)
    finally:
        (corpus / "audio" / "extra.m4a").unlink()
    assert code == 0 and lines[0] == "1 file in audio/ left out: meta.csv does not name them"
    assert lines[1].startswith("scene")


def test_check_shows_the_splits_and_what_cannot_be_used(small, corpus):
    config = small()
    code, lines = checked(config, decode=False)
    counts = Counter(clip.split for clip in tables_of(config)[""])
    assert code == 0 and lines[0].split() == ["scene", "train", "validation", "test"]
    assert lines[11].split() == ["all", *(str(counts[split]) for split in ("train", "validation", "test"))]
    assert sum(int(line.split()[3]) for line in lines[1:11]) == counts["test"]
    assert lines[12].split()[:4] == ["locations", "10", "10", "10"]
    code, lines = checked(config, decode=True)
    assert code == 2 and lines[13] == "> decode"
    assert lines[14].endswith(f"{counts.total()} recordings, 2 of them cannot be used")
    bad = [str(path.relative_to(corpus)) for path in sorted((corpus / "audio").glob("bus-*-a.wav"))[:2]]
    assert sorted(line.rpartition(": ")[2] for line in lines[15:]) == bad


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


@pytest.mark.parametrize(
    ("settings", "is_same"),
    [
        ("student.recipe.batch_size=4", True),
        ("seed=1", True),
        ("corpus.validation_fraction=0.5", False),
        ("validation.folds=2", False),
        ("features.n_mels=48", False),
        ("spectrum.correct=true", False),
        ("copies.kinds=[noise] student.copies=true", False),
        ("copies.noise=0.02", False),
    ],
)
def test_a_run_waits_for_another_that_makes_the_same_features(small, store, monkeypatch, settings, is_same):
    """Their work has one folder, whose lease one of them holds."""

    class Begun(Exception):
        pass

    def begin(*_: object) -> None:
        raise Begun

    monkeypatch.setattr("orchestrator.stages.features.compute", begin)
    for of_run in ((), settings.split()):
        with pytest.raises(Begun):
            run(Context(small(*of_run), store, View(Console(file=io.StringIO())), "run"))
    assert len(list(store.root.glob("work/features/*"))) == (1 if is_same else 2)


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


def test_a_near_copy_in_two_splits_is_said_by_check_and_run_and_listed(small, store, corpus):
    config = small("features.clip_seconds=4", "features.n_mels=48")
    clips = tables_of(config)[""]
    parks = [clip for clip in clips if clip.scene == "park"]
    train, test = (next(clip.path for clip in parks if clip.split == split) for split in ("train", "test"))
    samples, rate = soundfile.read(corpus / train)
    before = (corpus / test).read_bytes()
    soundfile.write(corpus / test, samples / 2, rate, subtype="PCM_16")
    try:
        _, lines = checked(config, decode=True)
        said = f"near copies: 1 pair of recordings in two splits sound the same, as {train} (train) and {test} (test)"
        assert any(line.startswith(said) for line in lines), "\n".join(lines)
        text = io.StringIO()
        context = Context(config, store, View(Console(file=text, width=400)), "run")
        run(context)
        _, folder = run(context)  # a run that uses the features again says it again
        assert text.getvalue().count(said) == 2
        (pair,) = read_near_copies(folder)
        assert (pair.first, pair.second, pair.different < 0.1) == (train, test, True)
    finally:
        (corpus / test).write_bytes(before)


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


class TestValidation:
    def test_devices_that_are_left_out_are_validated_and_tested_but_not_trained_on(self, small, store):
        before, config = small(), small("validation.leave_out_devices=[b, s1]")
        usual, data = (load_cuts(one, compute(one, store, parallel=False), store)[0] for one in (before, config))
        assert {"b", "s1"} <= set(usual.train.devices) and not {"b", "s1"} & set(data.train.devices)
        kept = [
            path
            for path, device in zip(usual.train.paths, usual.train.devices, strict=True)
            if device not in ("b", "s1")
        ]
        assert list(data.train.paths) == kept
        assert data.validation.paths == usual.validation.paths and data.test.paths == usual.test.paths
        assert {"b", "s1"} <= set(data.validation.devices)

    def test_a_refit_trains_on_every_device(self, small):
        refit = ["corpus.fit_on=[train, validation]", "student.weights=[1, 1]", "validation.leave_out_devices=[b]"]
        assert {clip.split for clip in check(small(*refit))} == {"train", "test"}

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ("leave_out_devices=[z]", "no training clip is of 'z'; the corpus has a, b, c, s1, s2, s3$"),
            ("leave_out_devices=[s4]", "no training clip is of 's4'"),  # which only the test split has
            ("leave_out_devices=[a, b, c, s1, s2, s3]", "leaves no training clip"),
        ],
    )
    def test_what_cannot_be_left_out_is_one_line(self, small, settings, message):
        with pytest.raises(CorpusError, match=message):
            check(small(f"validation.{settings}"))

    def test_means_over_devices_need_devices(self, small, tmp_path, corpus):
        clips = tables_of(small())[""]
        rows = [
            {"path": clip.path, "scene": clip.scene, "split": clip.split, "location": clip.location} for clip in clips
        ]
        with (tmp_path / "table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["path", "scene", "split", "location"])
            writer.writeheader()
            writer.writerows(rows)
        nameless = [f"corpus.layout={{name: manifest, file: {tmp_path / 'table.csv'}}}"]
        check(small(*nameless))  # the default is over devices only where there are any
        with pytest.raises(CorpusError, match="mean_over is devices, but the corpus names none: set it to clips"):
            check(small(*nameless, "validation.mean_over=devices"))
