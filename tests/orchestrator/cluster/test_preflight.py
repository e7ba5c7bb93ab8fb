"""What would fail later is told before anything is trained."""

from collections import namedtuple
from pathlib import Path

import pytest

from orchestrator.cluster.connection import concurrency, fit, places
from orchestrator.cluster.preflight import feature_bytes, look, require_alike, require_space
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.storage.store import Store
from orchestrator.versions import versions

DISK = namedtuple("DISK", "total used free")


def test_the_features_size_by_hand():
    """431 frames of 128 bins in two bytes: 110,336 bytes a clip; DOMAIN: 110 KB."""
    assert feature_bytes(load("dcase2021-2"), 13_962) == 13_962 * 110_336
    assert feature_bytes(load("dcase2021-1"), 100) == 6 * 100 * 110_336  # and five kinds of copies


def test_a_small_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: DISK(10**12, 0, 10**9))
    require_space(tmp_path, 10**9, "the storage's folder")
    with pytest.raises(UserError, match=r"has 1.0 GB free, the features alone need 2.0 GB more"):
        require_space(tmp_path, 2 * 10**9, "the storage's folder")


def test_a_node_looks_for_itself(store, elsewhere, tmp_path):
    store.check_writable()
    token = store.root / "preflight-x"
    token.write_text("from the driver")
    store.push(token)
    (tmp_path / "a.wav").write_bytes(b"")
    seen = look(elsewhere, elsewhere.root / token.name, tmp_path, "a.wav")
    assert seen["storage"] is None and seen["corpus"] and seen["versions"] == versions()
    require_alike("node-1", seen, store, tmp_path, size=1000)
    assert not [path for path in store.root.iterdir() if path.name.startswith("preflight-x-")]


def test_a_storage_that_is_a_nodes_own_is_seen(tmp_path):
    (tmp_path / "mine").mkdir()
    seen = look(Store(tmp_path / "mine"), tmp_path / "mine" / "preflight-x", tmp_path, "a.wav")
    assert seen["storage"] == "does not see what the driver wrote" and not seen["corpus"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"storage": "does not see what the driver wrote"},
            "node-1 does not see .* use a folder that every node",
        ),
        ({"free": 5 * 10**8}, r"node node-1: the disk of .* has 500.0 MB free, the features alone need 1.0 GB more"),
        ({"corpus": False}, "node-1 does not see the corpus at /data: mount it there"),
        ({"versions": {**versions(), "torch": "2.9.0"}}, "node-1 has torch 2.9.0, the driver 2.11.0"),
    ],
)
def test_what_differs_on_a_node_is_named(tmp_path, change, words):
    seen = {"storage": None, "corpus": True, "versions": versions(), "free": 10**9, **change}
    with pytest.raises(UserError, match=words):
        require_alike("node-1", seen, Store(tmp_path), Path("/data"), size=10**9)


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
