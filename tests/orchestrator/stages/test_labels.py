"""Soft labels come to the clips that they were made for, stored or from the teachers themselves."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from features.corpus import Clip
from features.maps import FeatureMap
from models.averaging import ensemble
from models.calibration import temperatures_of
from models.prediction import Predictions, predict
from orchestrator.errors import UserError
from orchestrator.monitor.view import View
from orchestrator.stages.context import Context, Data
from orchestrator.stages.labels import CrossFitted, Online, Stored, cuts_of, run, source_of
from orchestrator.stages.snapshots import predict_snapshot
from orchestrator.stages.teachers import task_of
from orchestrator.storage.files import read_json
from orchestrator.storage.tensors import load_arrays, save_tensors, snapshot_name
from orchestrator.training.data import Features, Split
from orchestrator.training.inputs import INPUT
from orchestrator.training.task import build, targets_of

TEACHERS = (
    "{one: {model: {width: 2}, recipe: {cycle_ends: [1, 3], crop_frames: 32}, ensemble: [1, 3]},"
    " two: {model: {width: 3}, recipe: {cycle_ends: [1, 3], crop_frames: 32}, ensemble: [3]}}"
)


@pytest.fixture
def config(small):
    return small(f"teachers={TEACHERS}", "copies.kinds=[noise]", "teachers.one.copies=true")


def snapshots(config, store, name: str) -> dict[int, torch.nn.Module]:
    """Snapshots of an untrained teacher, each with weights of its own, as an artifact would hold them."""
    folder = store.root / "artifacts" / "teacher" / name
    folder.mkdir(parents=True)
    task = task_of(config, name)
    found = {}
    for epoch in config.teachers[name].ensemble:
        model = build(replace(task, seed=epoch))
        save_tensors(folder / snapshot_name(epoch), model.state_dict())
        found[epoch] = model.eval()
    return found


def test_a_snapshot_predicts_whole_clips(config, store, data):
    for epoch, model in snapshots(config, store, "one").items():
        file = store.root / "artifacts" / "teacher" / "one" / snapshot_name(epoch)
        found = predict_snapshot(task_of(config, "one"), store, file, data.test.features, (0, 3))
        expected = predict(model, data.test.features.open(), INPUT, (0, 3))
        torch.testing.assert_close(found.scene, expected.scene)
        torch.testing.assert_close(found.group, expected.group)
        assert found.scene.shape == (len(data.test), 10) and found.group.shape == (len(data.test), 3)


def test_stored_labels_are_attached_in_the_order_of_the_clips(config, data, tmp_path):
    students = data.for_student(copies=False)
    scene = torch.randn(len(students.train), 10).log_softmax(1)
    group = torch.randn(len(students.train), 3).log_softmax(1)
    save_tensors(tmp_path / "labels.safetensors", {"scene": scene, "group": group})
    found = Stored(config.student.labels).attach(config, students, tmp_path, {})
    np.testing.assert_array_equal(found.train.soft_scene, scene.numpy())
    np.testing.assert_array_equal(found.train.soft_group, group.numpy())
    assert found.train.teachers == () and found.train.paths == students.train.paths
    assert found.validation is students.validation and found.key == students.key


def test_online_teachers_travel_with_the_data(config, store, data, tmp_path):
    models = {name: snapshots(config, store, name) for name in ("one", "two")}
    zeros = {"scene": torch.zeros(len(data.train), 10), "group": torch.zeros(len(data.train), 3)}
    zeros["temperatures"] = torch.tensor([0.25, 0.5])
    save_tensors(tmp_path / "labels.safetensors", zeros)
    folders = {name: store.root / "artifacts" / "teacher" / name for name in models}
    found = Online(config.student.labels).attach(config, data, tmp_path, {"": folders})
    assert [len(members) for members in found.train.teachers] == [2, 1] and found.train.temperatures == (0.25, 0.5)
    for members, (name, snapshot) in zip(found.train.teachers, models.items(), strict=True):
        for member, model in zip(members, snapshot.values(), strict=True):
            assert member.model == config.teachers[name].model
            for key, value in model.state_dict().items():
                np.testing.assert_array_equal(member.weights[key], value.numpy())


def test_calibration_is_of_each_classifier_and_of_groups_only_where_there_are_any():
    """By hand: three of four are of class 0, whose logit is 1 above the other's; groups are always right."""
    scene = torch.tensor([[1.0, 0.0]] * 4).softmax(1)
    temperatures = temperatures_of(
        Predictions(scene, torch.tensor([[0.6, 0.4]] * 4)), torch.eye(2)[[0, 0, 0, 1]], torch.eye(2)[[0, 0, 0, 0]]
    )
    assert temperatures == pytest.approx((1 / math.log(3), 0.01), rel=1e-3)
    without = Predictions(scene, torch.zeros(4, 0))
    assert temperatures_of(without, torch.eye(2)[[0, 0, 0, 1]], torch.zeros(4, 0))[1] == 1.0


def cross_fitted(small, *settings: str) -> tuple[Any, Any]:
    """An experiment with cross-fitted labels on four training locations a scene, and its data."""
    config = small(f"teachers={TEACHERS}", "student.labels={name: crossfit, parts: 2}", *settings)
    taxonomy = config.corpus.taxonomy
    clips = [
        Clip(f"{row}.wav", taxonomy.scenes[row % 10], "train", f"{row % 10}-{row // 20}", device="a")
        for row in range(40)
    ]
    split = replace(Split.of(clips, Features(FeatureMap((), (), (2, 3)), np.arange(40)), taxonomy), recordings=30)
    return config, Data("all", "recordings", split, split, split, {}, {}, {}, cut="fold2")


def test_each_part_is_labelled_by_teachers_that_have_not_heard_its_locations(small):
    config, data = cross_fitted(small)
    source = source_of(config)
    cuts, labelling = source.cuts(config, data), CrossFitted.labelling(cast("CrossFitted", source), config, data)
    assert [cut.cut for cut in cuts] == [label.cut for label in labelling] == ["fold2part1", "fold2part2"]
    assert np.sum([label.rows for label in labelling], axis=0).tolist() == [1] * 40  # every clip once
    for cut, label in zip(cuts, labelling, strict=True):
        heard = set(cut.train.locations)
        assert heard and not heard & {data.train.locations[row] for row in label.rows.nonzero()[0]}
        assert len(cut.train) + label.rows.sum() == 40 and set(cut.train.scene) == set(range(10))
        assert cut.train.recordings == (~label.rows[:30]).sum() and cut.validation is data.validation
    assert len({data.key, *(cut.key for cut in cuts)}) == len({data.recordings_key, *(c.recordings_key for c in cuts)})
    assert len({data.key, *(cut.key for cut in cuts)}) == 3


def test_which_locations_are_one_part_is_drawn_by_the_seed(small):
    found = []
    for seed in (0, 1, 2, 0):
        config, data = cross_fitted(small, f"seed={seed}")
        parts = cast("CrossFitted", source_of(config)).parts(config, data)
        assert sorted(len(part) for part in parts) == [10, 10] and len({name for part in parts for name in part}) == 20
        found.append(parts)
    assert found[0] == found[3] and found[0] != found[1] != found[2] != found[0]


def test_a_scene_that_a_part_would_leave_out_is_one_line(small):
    config, data = cross_fitted(small)
    alone = replace(data, train=data.train.take(np.array(data.train.locations) != "3-1"))
    with pytest.raises(UserError, match=r"parts is 2: without one part no training clip is of scene 'metro_station'"):
        cuts_of(config, [alone])
    assert cuts_of(small("student.labels=crossfit"), [alone]) == [alone]  # nobody labels, so nobody needs the parts


def test_the_setting_names_the_source(small):
    assert type(source_of(small("student.labels=stored"))) is Stored
    assert type(source_of(small("student.labels=online"))) is Online
    assert type(source_of(small("student.labels=crossfit"))) is CrossFitted


def test_without_teachers_students_have_no_labels_and_only_the_copies_that_they_want(config, store, data):
    context = Context(config, store, View(Console(file=io.StringIO())), "run")
    found, folder = run(context, data, {})
    assert folder is None and found.train.soft_scene is None
    assert len(found.train) == data.train.recordings < len(data.train) and found.key == data.recordings_key


@pytest.mark.usefixtures("ray_cluster")
class TestMaking:
    """On a real Ray: the artifact against the same ensemble by hand."""

    @pytest.fixture
    def teachers(self, config, store) -> dict[str, dict[int, torch.nn.Module]]:
        return {name: snapshots(config, store, name) for name in ("one", "two")}

    def by_hand(self, config, teachers, features) -> Predictions:
        """Each teacher's snapshots averaged, then the teachers; one has two snapshots, which must not count double."""
        parts = [
            ensemble([predict(model, features.open(), INPUT) for model in models.values()], config.ensemble_of)
            for models in teachers.values()
        ]
        return ensemble(parts, config.ensemble_of)

    def made(self, config, store, data) -> tuple[Data, Path]:
        shown = io.StringIO()
        context = Context(config, store, View(Console(file=shown)), "run")
        folders = {name: store.root / "artifacts" / "teacher" / name for name in ("one", "two")}
        labelled, folder = run(context, data, {"": folders})
        assert folder is not None
        again, same = run(context, data, {"": folders})
        assert same == folder and again.train.soft_scene is not None and labelled.train.soft_scene is not None
        assert np.array_equal(again.train.soft_scene, labelled.train.soft_scene)
        assert shown.getvalue().splitlines()[-1] == "= labels     reused  soft labels of the ensemble"
        return labelled, folder

    def test_stored_labels_are_the_ensemble_s(self, config, store, data, teachers):
        labelled, folder = self.made(config, store, data)
        students = data.for_student(copies=False)
        expected = self.by_hand(config, teachers, students.train.features)
        torch.testing.assert_close(torch.from_numpy(labelled.train.soft_scene), expected.scene.log())
        torch.testing.assert_close(torch.from_numpy(labelled.train.soft_group), expected.group.log())
        assert load_arrays(folder / "labels.safetensors")["temperatures"].tolist() == [1.0, 1.0]
        assert read_json(folder / "stage.json")["teachers"] == ["one", "two"]
        assert folder.parent == store.root / "artifacts" / "labels" and not list((store.root / "work").glob("labels/*"))

    def test_calibrated_labels_are_divided_by_what_fits_validation(self, small, store, data, teachers):
        settings = ("copies.kinds=[noise]", "teachers.one.copies=true", "calibrate_teachers=true")
        config = small(f"teachers={TEACHERS}", *settings)
        labelled, folder = self.made(config, store, data)
        known = self.by_hand(config, teachers, data.validation.features)
        targets = targets_of(data.validation, config.corpus.taxonomy)
        expected = temperatures_of(known, *targets)
        assert load_arrays(folder / "labels.safetensors")["temperatures"].tolist() == pytest.approx(expected, rel=1e-4)
        students = data.for_student(copies=False)
        scores = self.by_hand(config, teachers, students.train.features).scene.log() / expected[0]
        torch.testing.assert_close(torch.from_numpy(labelled.train.soft_scene), scores, rtol=1e-3, atol=1e-4)
