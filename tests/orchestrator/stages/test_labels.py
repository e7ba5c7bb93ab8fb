"""Soft labels come to the clips that they were made for, stored or from the teachers themselves."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from features.corpus import Clip
from features.cuts import rank
from features.maps import FeatureMap
from models.averaging import ensemble
from models.calibration import temperatures_of
from models.prediction import Predictions, predict
from models.seeding import derive
from orchestrator.errors import UserError
from orchestrator.monitor.view import View
from orchestrator.stages import labels
from orchestrator.stages.context import Context, Data, record
from orchestrator.stages.labels import CrossFitted, Online, Stored, attached_by, cuts_of, key_for, run, source_of
from orchestrator.stages.snapshots import predict_snapshot
from orchestrator.stages.teachers import task_of
from orchestrator.storage.files import read_json
from orchestrator.storage.lease import Holder
from orchestrator.storage.tensors import load_arrays, save_tensors, snapshot_name
from orchestrator.storage.work import working
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
    temperatures = torch.tensor([0.25, 0.5])
    save_tensors(tmp_path / "labels.safetensors", {"scene": scene, "group": group, "temperatures": temperatures})
    found = Stored(config.student.labels).attach(config, students, tmp_path, {})
    np.testing.assert_array_equal(found.train.soft_scene, scene.numpy())
    np.testing.assert_array_equal(found.train.soft_group, group.numpy())
    assert found.train.teachers == () and found.train.paths == students.train.paths
    assert found.train.temperatures == (0.25, 0.5)
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


def test_code_that_attaches_labels_is_ours_or_a_user_s_own_where_there_are_teachers(small, monkeypatch):
    assert attached_by(small()) == []
    config = small(f"teachers={TEACHERS}")
    assert attached_by(config) == [labels.with_scores, labels.with_teachers]
    monkeypatch.setattr(labels.LABELS, "find", lambda name: SimpleNamespace(implementation=f"mine:{name}"))
    assert attached_by(config)[2:] == ["mine:stored"]


def test_the_setting_names_the_source(small):
    assert type(source_of(small("student.labels=stored"))) is Stored
    assert type(source_of(small("student.labels=online"))) is Online
    assert type(source_of(small("student.labels=crossfit"))) is CrossFitted


def test_without_teachers_students_have_no_labels_and_only_the_copies_that_they_want(config, store, data):
    context = Context(config, store, View(Console(file=io.StringIO())), "run")
    found, folder = run(context, data, {})
    assert folder is None and found.train.soft_scene is None
    assert len(found.train) == data.train.recordings < len(data.train) and found.key == data.recordings_key


TAUGHT = {cut: {"one": Path(sure)} for cut, sure in (("fold2", "0.5"), ("fold2part1", "0.6"), ("fold2part2", "0.7"))}


def guess(_config: Any, _store: Any, teachers: dict[str, Path], features: Features) -> Predictions:
    """In the place of an ensemble that is wrong about every third clip, and as sure as its folder is called."""
    sure, rows = float(teachers["one"].name), torch.from_numpy(features.rows)
    scene = torch.full((len(rows), 10), (1 - sure) / 9)
    scene[torch.arange(len(rows)), (rows + (rows % 3 == 0)) % 10] = sure
    group = torch.full((len(rows), 3), (1 - sure) / 2)
    group[:, 1] = sure
    return Predictions(scene, group)


def soft(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The soft labels (clip, scene) and (clip, group)."""
    assert data.train.soft_scene is not None and data.train.soft_group is not None
    return data.train.soft_scene, data.train.soft_group


def parts_of(config: Any, data: Data) -> list[Any]:
    return CrossFitted.labelling(cast("CrossFitted", source_of(config)), config, data)


def test_cross_fitted_labels_are_put_together_from_the_parts_teachers(small, context_of, monkeypatch):
    monkeypatch.setattr(labels, "predict_ensemble", guess)
    config, data = cross_fitted(small)  # 30 of its 40 rows are recordings
    context = context_of(config, "labels")
    found, folder = run(context, data, TAUGHT)
    for part in parts_of(config, found):
        sure = np.exp(soft(found)[0][part.rows].max(1))
        np.testing.assert_allclose(sure, float(TAUGHT[part.cut]["one"].name), rtol=1e-5)
    status = context.view.of("labels")
    assert status.detail == "soft labels of 30 clips, 66.7% of them as labelled" and status.folders == [folder]
    status.folders = []
    assert run(context, data, TAUGHT)[1] == folder and status.folders == [folder] and status.state == "reused"


@pytest.mark.parametrize("calibrated", ["true", "[0.25, 0.5]"])
def test_both_classifiers_labels_are_divided_by_their_own_temperature(small, context_of, monkeypatch, calibrated):
    monkeypatch.setattr(labels, "predict_ensemble", guess)
    fitted = [] if calibrated != "true" else [(0.25, 0.5)]  # given ones are not fitted
    monkeypatch.setattr(labels, "temperatures_of", lambda *_: fitted.pop())
    config, data = cross_fitted(small, f"calibrate_teachers={calibrated}")
    context = context_of(config, "labels")
    found, _ = run(context, data, TAUGHT)
    for part in parts_of(config, found):
        log = math.log(float(TAUGHT[part.cut]["one"].name))
        for labels_of, temperature in zip(soft(found), (0.25, 0.5), strict=True):
            np.testing.assert_allclose(labels_of[part.rows].max(1), log / temperature, rtol=1e-5)
    assert context.view.of("labels").detail.endswith("as labelled, at temperatures 0.25 and 0.50")


def test_the_key_of_cross_fitted_labels_has_the_parts_teachers_and_rows(small):
    config, data = cross_fitted(small)
    parts = parts_of(config, data)
    others = TAUGHT | {"fold2part1": {"one": Path("other")}}
    swapped = [replace(part, rows=~part.rows) for part in parts]
    keys = [(TAUGHT, parts), (others, parts), (TAUGHT, swapped)]
    assert len({key_for(config, data, teachers, which) for teachers, which in keys}) == 3


def test_a_run_waits_for_another_that_makes_the_labels_and_shows_how_far_its_own_are(
    small, store, context_of, shown, monkeypatch
):
    calls: list[Any] = []
    monkeypatch.setattr(labels, "predict_ensemble", guess)
    monkeypatch.setattr(labels, "working", lambda *how: calls.append(how) or working(*how))
    config, data = cross_fitted(small)
    context = context_of(config, "labels")
    _, folder = run(context, data, TAUGHT)
    assert folder is not None
    ((where, kind, key, waiting, progress),) = calls
    assert (where, kind, key) == (store, "labels", folder.name)
    status = context.view.of("labels")
    status.done, status.total = 1, 4
    assert progress() == (0.25, status.detail)
    waiting(Holder("job 7", "jane", "vm", "now", 0.5, ""))
    assert "  labels: waiting; made by job 7 on node vm, 50 %" in shown(context)


def test_labels_that_another_run_has_just_made_are_not_made_again(small, context_of, monkeypatch):
    @contextmanager
    def after_another(where: Any, kind: str, key: str, *rest: Any) -> Iterator[Any]:
        with working(where, kind, key, *rest) as work:
            with where.publish("labels", key) as target:
                known = {"scene": torch.zeros(30, 10), "group": torch.zeros(30, 3), "temperatures": torch.ones(2)}
                save_tensors(target / "labels.safetensors", known)
                record(target, 1.0)
            yield work

    monkeypatch.setattr(labels, "working", after_another)
    monkeypatch.setattr(labels, "predict_ensemble", None)  # is not called
    config, data = cross_fitted(small)
    found, _ = run(context_of(config, "labels"), data, TAUGHT)
    assert not soft(found)[0].any()


def test_which_location_of_a_scene_is_in_the_first_part_is_drawn_for_the_parts(small):
    config, data = cross_fitted(small, "seed=1")
    seed = derive(1, "parts")
    first = [min((f"{scene}-0", f"{scene}-1"), key=lambda name: rank(name, seed)) for scene in range(10)]
    assert cast("CrossFitted", source_of(config)).parts(config, data)[0] == first


def test_students_that_want_copies_keep_them(small, context_of, data):
    config = small("copies.kinds=[noise]", "student.copies=true")
    found, _ = run(context_of(config, "labels"), data, {})
    assert found.key == data.key and len(found.train) == len(data.train)


def test_online_teachers_come_with_the_labels_of_a_run(small, store, data, context_of, monkeypatch):
    def uniform(*given: Any) -> Predictions:
        clips = len(given[-1])
        return Predictions(torch.full((clips, 10), 0.1), torch.full((clips, 3), 1 / 3))

    monkeypatch.setattr(labels, "predict_ensemble", uniform)
    settings = ("copies.kinds=[noise]", "teachers.one.copies=true", "student.labels=online")
    config = small(f"teachers={TEACHERS}", *settings)
    for name in config.teachers:
        snapshots(config, store, name)
    folders = {name: store.root / "artifacts" / "teacher" / name for name in config.teachers}
    found, _ = run(context_of(config, "labels"), data, {"": folders})
    assert [len(members) for members in found.train.teachers] == [2, 1]


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
