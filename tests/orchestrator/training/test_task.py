"""What surrounds a training: its data, its size rule."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.corpus import Clip
from features.maps import FeatureMap
from features.store import DamagedShard, Shard, write_shard
from features.taxonomy import TAU_GROUPS, Taxonomy
from models.batches import Clips
from models.prediction import Predictions
from models.recipe import Recipe
from models.specs import MobnetSpec, Spec
from orchestrator.stages.context import Data
from orchestrator.training.data import Features, Split
from orchestrator.training.task import Task, judge, training_clips


def task(model: Spec) -> Task:
    return Task(model, Recipe(), 0, Taxonomy.from_groups(TAU_GROUPS), "scene")


NOWHERE = FeatureMap((), (), (2, 3))  # never opened


def numbered(folder: Path) -> FeatureMap:
    """Twenty-one clips; each is full of its row's number."""
    static = np.arange(21, dtype=np.float16)[:, None, None] * np.ones((1, 2, 3), np.float16)
    paths = [str(row) for row in range(21)]
    write_shard(folder / "numbers.parquet", Shard(paths, paths, paths, static, {}))
    return FeatureMap((folder / "numbers.parquet",), (21,), (2, 3))


def split(features: FeatureMap, scenes: list[int], first: int) -> Split:
    rows = Features(features, np.arange(first, first + len(scenes)))
    taxonomy = Taxonomy.from_groups(TAU_GROUPS)
    clips = [Clip(f"{first}-{row}", taxonomy.scenes[at], "train", "x", device="a") for row, at in enumerate(scenes)]
    return Split.of(clips, rows, taxonomy)


def heard(clips: Clips) -> list[float]:
    """The numbers that the clips are full of."""
    return clips.static.values[clips.static.rows][:, 0, 0].tolist()


def test_copies_follow_the_recordings_and_are_used_by_those_who_want_them(tmp_path):
    features = numbered(tmp_path)
    own, noise, mix = split(features, [0, 4, 9], 0), split(features, [0, 9], 10), split(features, [4], 20)
    data = own.with_copies([noise, mix]).with_soft(np.eye(6, 10, dtype=np.float32), np.eye(6, 3, dtype=np.float32))
    assert data.recordings == 3 and len(data.paths) == len(data.devices) == 6
    everything = training_clips(replace(task(MobnetSpec()), copies=True), data)
    assert heard(everything) == [0, 1, 2, 10, 11, 20]
    assert everything.scene.argmax(1).tolist() == [0, 4, 9, 0, 9, 4]
    recordings = training_clips(task(MobnetSpec()), data)
    assert heard(recordings) == [0, 1, 2]
    assert recordings.scene.argmax(1).tolist() == [0, 4, 9]
    assert recordings.soft_scene is not None and recordings.soft_scene.argmax(1).tolist() == [0, 1, 2]
    assert own.with_copies([]) is own


def test_what_grows_with_the_clips_travels_uncopied():
    soft = np.zeros((5000, 10), np.float32)
    data = split(NOWHERE, [0, 4, 9, 4, 1] * 1000, 0).with_soft(soft, soft)
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(rest) < 4_000 and sum(buffer.raw().nbytes for buffer in buffers) > 5000 * (40 + 8 + 8)
    back = pickle.loads(rest, buffers=buffers)
    assert back.clips.equals(data.clips) and back.scene.tolist() == data.scene.tolist()
    assert (back.paths[4999], back.devices[0], back.locations[1]) == ("0-4999", "a", "x")


def test_a_damaged_shard_that_a_training_meets_is_removed_so_that_the_next_start_computes_it(tmp_path):
    features = numbered(tmp_path)
    (shard,) = features.shards
    write_shard(shard, Shard(["0"], ["0"], ["0"], np.zeros((1, 2, 3), np.float16), {}))
    features.file.unlink(missing_ok=True)
    with pytest.raises(DamagedShard, match="1 clips in place of 21"):
        split(features, [0], 0).features.open()
    assert not shard.exists()


def test_without_validation_there_is_nothing_to_judge():
    nothing = Predictions(torch.empty(0, 10), torch.empty(0, 3))
    assert judge(split(NOWHERE, [], 0), nothing, task(MobnetSpec())) == {"accuracy": None, "log_loss": None}


def test_validation_is_judged_by_the_decision_that_is_asked_for():
    """By hand: the scene classifier prefers bus (transportation); with the groups, airport (indoor) wins."""
    scene, group = torch.full((1, 10), 0.01), torch.tensor([[0.9, 0.05, 0.05]])
    scene[0, 0], scene[0, 1] = 0.4, 0.52
    by_scene = judge(split(NOWHERE, [0], 0), Predictions(scene, group), task(MobnetSpec()))
    by_both = judge(split(NOWHERE, [0], 0), Predictions(scene, group), replace(task(MobnetSpec()), decision="combined"))
    assert by_scene["accuracy"] == 0 and by_both["accuracy"] == 1
    joint = 0.4 * 0.9 + 0.52 * 0.05 + 0.01 * (2 * 0.9 + 4 * 0.05 + 2 * 0.05)
    assert by_both["log_loss"] == pytest.approx(-np.log(0.36 / joint), rel=1e-5)


def test_students_without_copies_do_not_depend_on_them():
    own = split(NOWHERE, [0, 4, 9], 0)
    data = Data("all", "recordings", own.with_copies([split(NOWHERE, [0], 10)]), own, own, {}, {}, {})
    assert data.for_student(copies=True) is data
    alone = data.for_student(copies=False)
    assert alone.key == "recordings" and len(alone.train) == 3
