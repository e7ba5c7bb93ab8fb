"""What would fail later is told before anything is trained."""

from collections import namedtuple
from pathlib import Path

import pytest

from features.corpus import Clip
from orchestrator.cluster.preflight import (
    feature_bytes,
    is_for_training,
    lack_of_space,
    look,
    require_alike,
    require_space,
    shards_to_come,
)
from orchestrator.cluster.resources import concurrency, fit, places
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.storage.store import Store
from orchestrator.versions import versions

SPLITS = {"train": 13_000, "validation": 962, "test": 2_970}
DISK = namedtuple("DISK", "total used free")


def test_the_features_size_by_hand():
    """431 frames of 128 bins in two bytes: 110,336 bytes a clip; DOMAIN: 110 KB."""
    clips = [Clip(str(row), "bus", split, "x") for split, count in SPLITS.items() for row in range(count)]
    assert feature_bytes(load("dcase2021-2"), clips) == (13_962 + 2_970) * 110_336
    assert feature_bytes(load("dcase2021-1"), clips) == (13_962 + 2_970 + 5 * 13_000) * 110_336  # of training alone
    folded = load("dcase2021-1", ["validation.folds=2", "copies.kinds=[pitch, mix]", "spectrum.correct=false"])
    assert feature_bytes(folded, clips) == (13_962 + 2_970 + 2 * 13_962) * 110_336  # every clip is trained on by a fold


@pytest.mark.parametrize(
    ("shards", "features", "there", "lack"),
    [
        (10**9, 0, 0, None),
        (10**9 + 1, 0, 0, "1.0 GB free for {root}, the features alone need 1.0 GB more"),
        (0, 2 * 10**9, 0, "1.0 GB free for {maps}, the features alone need 2.0 GB more"),
        (5 * 10**8, 5 * 10**8, 0, None),
        (5 * 10**8, 10**9, 0, "1.0 GB free for {root} and {maps}, the features alone need 1.5 GB more"),
        (10**9, 1000, 1000, None),  # as large as the map that is there
    ],
)
def test_shards_and_the_map_must_fit_on_the_disk_together(tmp_path, monkeypatch, shards, features, there, lack):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "cache"))
    (tmp_path / "cache" / "maps").mkdir(parents=True)
    (tmp_path / "cache" / "maps" / "x.f16").write_bytes(bytes(there))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: DISK(10**12, 0, 10**9))
    found = lack_of_space(tmp_path / "storage", shards, features)
    expected = lack and lack.format(root=tmp_path / "storage", maps=tmp_path / "cache" / "maps")
    assert found == expected
    if lack:
        with pytest.raises(UserError, match=r"^here has 1.0 GB free .*; make room, or choose another --storage"):
            require_space("here", found)
    else:
        require_space("here", found)


@pytest.mark.parametrize(("cpus", "trains"), [(0, False), (1, False), (2, True)])
def test_a_node_on_which_no_trial_fits_maps_nothing(cpus, trains):
    resources = load("demo", ["resources.cpus_per_trial=2"]).resources
    assert is_for_training({"Resources": {"CPU": cpus}}, resources) is trains


def test_a_node_looks_for_itself(store, elsewhere, tmp_path):
    store.check_writable()
    token = store.root / "preflight-x"
    token.write_text("from the driver")
    store.push(token)
    (tmp_path / "a.wav").write_bytes(b"")
    seen = look(elsewhere, elsewhere.root / token.name, tmp_path, "a.wav", 1000, 1000)
    assert seen["storage"] is None and seen["corpus"] and seen["versions"] == versions() and seen["lack"] is None
    require_alike("node-1", seen, store, tmp_path)
    assert not [path for path in store.root.iterdir() if path.name.startswith("preflight-x-")]


def test_a_storage_that_is_a_nodes_own_is_seen(tmp_path):
    (tmp_path / "mine").mkdir()
    seen = look(Store(tmp_path / "mine"), tmp_path / "mine" / "preflight-x", tmp_path, "a.wav", 10**18, 0)
    assert seen["storage"] == "does not see what the driver wrote" and not seen["corpus"]
    assert seen["lack"].endswith(f"free for {tmp_path / 'mine'}, the features alone need 1.0 EB more")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"storage": "does not see what the driver wrote"},
            "node-1 does not see .* use a folder that every node",
        ),
        ({"lack": "5 bytes free for x"}, r"^node node-1 has 5 bytes free for x; make room, or"),
        ({"corpus": False}, "node-1 does not see the corpus at /data: mount it there"),
        ({"versions": {**versions(), "torch": "2.9.0"}}, "node-1 has torch 2.9.0, the driver 2.11.0"),
    ],
)
def test_what_differs_on_a_node_is_named(tmp_path, change, words):
    seen = {"storage": None, "corpus": True, "versions": versions(), "lack": None, **change}
    with pytest.raises(UserError, match=words):
        require_alike("node-1", seen, Store(tmp_path), Path("/data"))


@pytest.mark.parametrize(
    ("node", "fits"),
    [({"CPU": 8}, 0), ({"CPU": 8, "GPU": 1}, 2), ({"CPU": 1, "GPU": 4}, 1), ({}, 0), ({"CPU": 2, "GPU": 1.0}, 2)],
)
def test_a_trial_fits_on_one_node_or_on_none(node, fits):
    assert fit(node, cpus=1, gpus=0.5) == fits
    assert fit({"CPU": 2}, cpus=4, gpus=0) == 0 and fit({"CPU": 9}, cpus=4, gpus=0) == 2


@pytest.mark.integration
@pytest.mark.usefixtures("ray_cluster")
def test_trials_wait_for_no_resource_that_nobody_has():
    assert places(1, 0) == 2 and concurrency(load("demo").resources) == 2
    with pytest.raises(
        UserError, match=r"a trial needs 1 CPUs and 0.5 GPUs on one node; no node has them .in all: 2 and 0"
    ):
        concurrency(load("dcase2021").resources)
    with pytest.raises(UserError, match="needs 3 CPUs"):
        concurrency(load("demo", ["resources.cpus_per_trial=3"]).resources)


def test_a_node_s_own_copies_of_shards_count_and_in_a_shared_folder_those_that_nobody_has(store):
    store.shards.mkdir(parents=True)
    (store.shards / "x.parquet").write_bytes(bytes(300))
    assert shards_to_come(store, missing=500, features=1000) == (700 if store.is_remote else 500)
