"""The splits of every cut: of folds, of a refit, of parts, and where a shard is damaged."""

import numpy as np

from features.cuts import cut_folds
from models.seeding import derive
from orchestrator.stages.computed import compute
from orchestrator.stages.context import Data
from orchestrator.stages.corpus import layout_of, tables_of
from orchestrator.stages.cuts import load_cuts, located, prepare

SPACE = "space: {recipe.mixup_alpha: {low: 0.1, high: 1}}"
SEARCH = f"search={{trials: 2, cycle_ends: [1, 3], finalists: 0, stopping: none, {SPACE}}}"


def test_without_a_cluster_this_process_makes_the_map(small, store, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    config = small()
    computed = compute(config, store, parallel=False)
    features, _ = located(config, computed, store)
    features.file.unlink(missing_ok=True)
    prepare(config, computed, store)
    assert features.file.exists()


def test_a_shard_that_is_cut_short_is_computed_again_where_the_splits_are_loaded(small, store):
    config, told = small(), list[str]()
    computed, store.tell = compute(config, store, parallel=False), told.append
    file = store.shards / computed.manifest.shards[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    load_cuts(config, computed, store)
    assert file.read_bytes() == whole and told == [f"  shards/{file.name} is damaged and is computed again"]


def test_splits_carry_the_keys_and_notes_of_what_was_computed(small, store):
    config = small("features.clip_seconds=0.5", "student.recipe.crop_frames=8")
    computed = compute(config, store, parallel=False)
    (data,) = load_cuts(config, computed, store)
    assert (data.key, data.recordings_key) == (computed.key(), computed.recordings_key())
    assert data.notes == computed.manifest.notes and data.test.paths[0] in data.notes


def test_every_fold_has_a_cut_of_its_own_and_copies_of_its_training_clips(small, store, corpus):
    config = small(SEARCH, "validation.folds=2", "copies.kinds=[noise]", "student.copies=true")
    tables = tables_of(config)
    clips = layout_of(config).read(corpus, config.corpus.taxonomy)
    assert [tables["fold1"], tables["fold2"]] == cut_folds(clips, 2, derive(0, "validation"))
    computed = compute(config, store, parallel=False)
    assert list(computed.copies) == ["noise-fold1", "noise-fold2"]
    own, *folds = load_cuts(config, computed, store)
    assert [cut.cut for cut in (own, *folds)] == ["", "fold1", "fold2"]
    assert len({cut.key for cut in (own, *folds)}) == 3
    for cut, other in zip(folds, reversed(folds), strict=True):
        recordings, copies = np.split(np.array(cut.train.paths), [cut.train.recordings])
        assert set(recordings) == set(other.validation.paths) and sorted(copies) == sorted(recordings)


def test_a_refit_has_an_empty_validation_split(small, store):
    config = small("corpus.fit_on=[train, validation]", "student.weights=[1, 1]")
    (data,) = load_cuts(config, compute(config, store, parallel=False), store)
    static = data.validation.features.open()
    assert len(data.validation) == 0 and len(static.values[static.rows]) == 0


def test_a_part_without_some_locations_has_keys_that_stand_for_it_with_copies_and_without(small, store):
    config = small("copies.kinds=[noise]", "student.copies=true")
    data: Data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    place = data.train.locations[0]
    parts = [data, data.without([place], "part1"), data.without([], "part2")]
    assert len({key for part in parts for key in (part.key, part.recordings_key)}) == 6
    assert set(parts[1].train.locations) == set(data.train.locations) - {place}
    assert [part.cut for part in parts] == ["", "part1", "part2"]
