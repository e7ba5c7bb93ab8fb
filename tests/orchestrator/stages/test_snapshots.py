"""Teachers' snapshots predict as Ray tasks: where, with what share of a machine, and what."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.static import Static
from orchestrator.stages.snapshots import predict_snapshot, predict_teachers
from orchestrator.stages.teachers import task_of
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import save_tensors, snapshot_name
from orchestrator.training.task import build

TEACHER = "{model: {width: 2}, recipe: {cycle_ends: [1, 3], crop_frames: 32}, ensemble: [1, 3]}"


@pytest.fixture
def config(small):
    return small(f"teachers={{one: {TEACHER}}}", "resources={cpus_per_trial: 2, gpus_per_trial: 0.25}")


@pytest.fixture
def folder(config, store) -> Path:
    """The artifact of an untrained teacher."""
    found = store.root / "artifacts" / "teacher" / "one"
    found.mkdir(parents=True)
    for epoch in (1, 3):
        save_tensors(found / snapshot_name(epoch), build(task_of(config, "one")).state_dict())
    return found


def test_a_snapshot_is_pulled_and_predicts_on_the_cpu_where_torch_has_no_gpu(config, store, data, folder, monkeypatch):
    pulled: list[Path] = []
    places: list[torch.device] = []
    to = Static.to
    data.test.features.open()  # made, if need be, from shards that are pulled
    monkeypatch.setattr(Store, "pull", lambda self, path: pulled.append(path))
    monkeypatch.setattr(Static, "to", lambda self, device: places.append(device) or to(self, device))
    monkeypatch.setattr("orchestrator.stages.snapshots.usable", {"cuda": "cpu"}.__getitem__)
    file = folder / snapshot_name(1)
    predict_snapshot(replace(task_of(config, "one"), device="cuda"), store, file, data.test.features)
    assert pulled == [file] and places == [torch.device("cpu")]


def test_every_snapshot_predicts_in_a_task_with_a_trial_s_share(config, store, data, folder, monkeypatch):
    asked: list[tuple[Any, ...]] = []

    def remote(**share: float) -> Any:
        def of(function: Any) -> Any:
            def options(name: str) -> Any:
                return SimpleNamespace(remote=lambda *values: asked.append((name, share, function, values)) or name)

            return SimpleNamespace(options=options)

        return of

    monkeypatch.setattr("ray.remote", remote)
    monkeypatch.setattr("ray.put", lambda value: value)
    task = task_of(config, "one")
    found = predict_teachers({"one": task}, config.resources, store, {"one": folder}, data.test.features, (0, 4))
    assert found == {"one": ["predict one epoch-0001", "predict one epoch-0003"]}
    share, features = {"num_cpus": 2, "num_gpus": 0.25}, data.test.features
    assert asked == [
        (
            f"predict one epoch-{epoch:04d}",
            share,
            predict_snapshot,
            (replace(task, device="cuda"), store, folder / snapshot_name(epoch), features, (0, 4)),
        )
        for epoch in (1, 3)
    ]
