"""Results are published whole or not at all."""

import pytest
import torch

from models.fit import Snapshot
from orchestrator.artifacts import Store, load_snapshot, read_json, save_snapshot, snapshots_in, write_json
from orchestrator.errors import UserError


def test_an_artifact_appears_only_when_it_is_finished(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.publish("teacher", "abc") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert store.finished("teacher", "abc") is None
    assert list((tmp_path / "artifacts" / "teacher").iterdir()) == []
    with store.publish("teacher", "abc") as folder:
        (folder / "whole").write_text("x")
        assert store.finished("teacher", "abc") is None
    finished = store.finished("teacher", "abc")
    assert finished is not None and (finished / "whole").read_text() == "x"


def test_a_snapshot_comes_back_to_the_bit(tmp_path):
    snapshot = Snapshot(7, {"a.weight": torch.randn(3, 4), "n": torch.tensor(5)}, {"a.weight": torch.randn(3, 4)})
    save_snapshot(tmp_path / "epoch-0007.safetensors", snapshot)
    read = load_snapshot(tmp_path / "epoch-0007.safetensors")
    assert read.epoch == 7
    for ours, theirs in ((snapshot.model, read.model), (snapshot.momentum, read.momentum)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert list(snapshots_in(tmp_path)) == [7]


def test_a_torn_snapshot_is_one_clear_line(tmp_path):
    path = tmp_path / "latest.safetensors"
    save_snapshot(path, Snapshot(1, {"a": torch.ones(100)}, {}))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"latest\.safetensors cannot be read .*delete it"):
        load_snapshot(path)


def test_json_is_replaced_not_rewritten(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_unwritable_storage_is_told_at_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"cannot be written.*--storage"):
        Store(blocked / "runs").check_writable()
