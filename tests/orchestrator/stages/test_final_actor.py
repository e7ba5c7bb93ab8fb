"""The final actor in this process: what is averaged, kept and predicted, against the same arithmetic by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.averaging import average, reestimate_norms
from models.batches import batches
from models.calibration import temperatures_of
from models.fit import Snapshot
from models.prediction import predict
from models.scene_model import BeyondFp16, SceneModel
from models.static import Static
from orchestrator.config.experiment import Experiment
from orchestrator.errors import UserError
from orchestrator.stages.computed import compute
from orchestrator.stages.cuts import load_cuts
from orchestrator.stages.final_actor import MODEL, Averaging, Final
from orchestrator.stages.search import student_task
from orchestrator.storage.files import write_json
from orchestrator.storage.tensors import load_snapshot, load_tensors, snapshots_in
from orchestrator.storage.work import VERSIONS
from orchestrator.training.data import Split
from orchestrator.training.inputs import INPUT
from orchestrator.training.journal import Journal
from orchestrator.training.metrics import objective
from orchestrator.training.record import SCORES, TRIALS
from orchestrator.training.rows import Metrics, Row
from orchestrator.training.scores import load_scores
from orchestrator.training.task import build, decide, targets_of, training_clips
from orchestrator.versions import begun_with


@pytest.fixture
def config(small):
    return small("test_shifts=[0, 4]", "student.model.rows=[8, 8, 8]")


def actor(config, store, **changes: Any) -> Final:
    student = config.student
    settings = Averaging.of(config, student)
    folder = store.root / "work" / "final" / "key" / TRIALS / "final-plain"
    return Final("plain", student_task(config, student), replace(settings, **changes), store, folder, "run")


def by_hand(final: Final, weights: dict[int, float], moving: bool = False) -> SceneModel:
    """The average of the snapshots of `weights`, epoch -> weight, or of their `moving` averages."""
    files = snapshots_in(final.folder)
    model = build(final.task)
    snapshots = [load_snapshot(files[epoch]) for epoch in weights]
    states = [one.model | one.moving if moving else one.model for one in snapshots]
    model.load_state_dict(average(states, list(weights.values())))
    reestimate_norms(model, final.training_inputs(), seed=final.task.seed)
    return model


def metrics(model: SceneModel, split: Split, config: Experiment) -> Metrics:
    """Of a model with the experiment's shifts, by the decision that judges."""
    predicted = predict(model, split.features.open(), INPUT, config.test_shifts)
    decided = decide(predicted, config.judged, config.corpus.taxonomy)
    return objective(split.scene, decided, split.devices, "devices")


def test_how_weights_are_made_is_the_experiments(small):
    settings = ("student.average=[1, 3]", "student.weights=[1, 3]", "student.moving=true", "student.calibrate=true")
    config = small(*settings, "student.recipe.moving_average=0.9", "select_by=accuracy", "test_shifts=[0, 4]")
    made = Averaging.of(config, config.student)
    assert (made.epochs, made.weights, made.moving, made.calibrate) == ((1, 3), (1.0, 3.0), True, True)
    assert (made.select_by, made.shifts, made.begun) == ("accuracy", (0, 4), None)
    assert made.export.keys() == {"onnx", "tflite"}


def test_weights_that_a_run_has_chosen_are_averaged_and_predict_the_test_split(config, store, data):
    final = actor(config, store, weights=(1.0, 3.0))
    outcome = final.run(data, export=False)
    assert outcome.facts == {} and outcome.averaged.kept == "as chosen before"
    assert outcome.averaged.weights == {1: 1.0, 3: 3.0} and set(outcome.averaged.tried) == {"as chosen before"}
    assert [row["epoch"] for row in final.journal.rows] == [1, 2, 3]
    assert final.progress() == final.journal.rows[-1]
    expected = by_hand(final, {1: 1.0, 3: 3.0})
    expected.quantise()  # to fp16, and folded, as the files are
    kept = load_tensors(final.folder / MODEL)
    assert kept.keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert kept[name].dtype == torch.float16 and torch.equal(kept[name].float(), value), name
    predicted = predict(expected, data.test.features.open(), INPUT, (0, 4))
    assert outcome.predictions.keys() == {"plain"}
    torch.testing.assert_close(outcome.predictions["plain"].scene, predicted.scene)
    assert outcome.averaged.fp16 == pytest.approx(metrics(expected, data.validation, config))
    assert load_scores(final.folder / SCORES).keys() == {1, 3}
    assert final.student().state_dict().keys() == kept.keys()


def test_the_best_way_on_validation_is_kept_and_a_restarted_actor_trains_nothing_again(config, store, data):
    final = actor(config, store)
    outcome = final.run(data, export=False)
    tried = outcome.averaged.tried
    assert next(iter(tried)) == "last, epoch 3" and {"plain average", "weighted average"} < set(tried)
    assert outcome.averaged.kept == min(tried, key=lambda way: tried[way]["log_loss"] or 0)
    assert not any(way.moving for way in final.ways()[0].values()) and outcome.averaged.moving is False
    for name, way in final.ways()[0].items():
        assert tried[name] == pytest.approx(metrics(by_hand(final, way.weights), data.validation, config)), name
    snapshots = {file: file.stat().st_mtime_ns for file in final.folder.glob("*.safetensors") if file.name != MODEL}
    again = actor(config, store).run(data, export=False)
    assert again.averaged == outcome.averaged
    assert torch.equal(again.predictions["plain"].scene, outcome.predictions["plain"].scene)
    assert {file: file.stat().st_mtime_ns for file in snapshots} == snapshots


def test_temperatures_are_fitted_on_validation_where_the_student_is_calibrated(config, store, data):
    final = actor(config, store, calibrate=True, weights=(1.0, 3.0))
    outcome = final.run(data, export=False)
    plain = by_hand(final, {1: 1.0, 3: 3.0})
    targets = targets_of(data.validation, config.corpus.taxonomy)
    predicted = predict(plain, data.validation.features.open(), INPUT, config.test_shifts)
    assert outcome.averaged.temperatures == pytest.approx(temperatures_of(predicted, *targets), rel=1e-4)
    assert outcome.averaged.temperatures != (1.0, 1.0)
    assert actor(config, store, weights=(1.0, 3.0)).run(data, export=False).averaged.temperatures == (1.0, 1.0)


def test_without_a_test_split_nothing_is_predicted(config, store, data):
    nothing = data.test.take(np.zeros(len(data.test), bool))
    outcome = actor(config, store).run(replace(data, test=nothing), export=False)
    assert outcome.predictions == {}


def test_a_student_that_diverges_is_one_line(small, store):
    config = small("student.recipe.learning_rate=1e10", "student.model.rows=[8, 8, 8]")
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    with pytest.raises(UserError, match="^final-plain failed: the loss is .* lower learning_rate"):
        actor(config, store).run(data, export=False)


@pytest.mark.parametrize(("has_cuda", "device"), [(True, "cuda"), (False, "cpu")])
def test_an_actor_computes_on_the_cpu_where_torch_cannot_use_its_gpu(config, store, monkeypatch, has_cuda, device):
    usual = actor(config, store)
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    made = Final("plain", replace(usual.task, device="cuda"), usual.settings, store, usual.folder, "run")
    assert made.task == replace(usual.task, device=device)


def test_before_its_first_epoch_an_actor_is_at_epoch_0(config, store):
    assert actor(config, store).progress() == {"epoch": 0}


def test_weights_beyond_fp16_are_one_line(config, store, data, monkeypatch):
    def beyond(*_: object) -> None:
        raise BeyondFp16("w holds 7e+04, fp16 ends at 65504")

    monkeypatch.setattr(SceneModel, "quantise", beyond)
    with pytest.raises(UserError, match="^final-plain failed: w holds 7e"):
        actor(config, store, weights=(1.0, 3.0)).run(data, export=False)


def test_an_actor_on_a_node_of_other_versions_does_not_begin(config, store, data):
    final = actor(config, store)
    write_json(final.folder.parents[1] / VERSIONS, {**begun_with(), "torch": "0.1"})
    with pytest.raises(UserError, match=r"what is in key .* torch 0\.1"):
        final.run(data, export=False)


def test_epochs_are_reported_as_the_final_stage_s_and_snapshots_are_of_cycle_ends(config, store, data, monkeypatch):
    reported: list[tuple[Any, ...]] = []
    saved: list[int] = []

    class Reported:
        def __init__(self, *about: str) -> None:
            self.about = about

        def report(self, row: Row) -> None:
            reported.append((*self.about, row["epoch"]))

    def save(self: Journal, row: Row, snapshot: Snapshot) -> None:
        saved.append(row["epoch"])
        original(self, row, snapshot)

    original = Journal.save
    monkeypatch.setattr("orchestrator.stages.final_actor.Telemetry", Reported)
    monkeypatch.setattr("orchestrator.training.journal.SNAPSHOT_EVERY", 1e9)
    monkeypatch.setattr(Journal, "save", save)
    actor(config, store).run(data, export=False)
    assert reported == [("run", "final", "final-plain", epoch) for epoch in (1, 2, 3)] and saved == [1, 3]


def test_an_actor_goes_on_from_the_journal_that_is_its_beginning(config, store, data):
    first = actor(config, store, epochs=(3,), weights=(1.0,))
    first.run(data, export=False)
    settings, folder = replace(first.settings, begun=first.folder), first.folder.with_name("final-other")
    other = Final("plain", first.task, settings, store, folder, "run")
    other.run(data, export=False)
    assert other.journal.rows == first.journal.rows  # with their seconds: nothing was trained again


def test_without_validation_the_weights_are_those_that_were_chosen(config, store, data):
    nothing = data.validation.take(np.zeros(len(data.validation), bool))
    averaged = actor(config, store, weights=(1.0, 3.0)).run(replace(data, validation=nothing), export=False).averaged
    assert (averaged.kept, averaged.fp16) == ("as chosen before", {"accuracy": None, "log_loss": None})


def test_moving_averages_are_tried_and_kept_where_the_recipe_has_them(small, store, data):
    config = small("test_shifts=[0, 4]", "student.model.rows=[8, 8, 8]", "student.recipe.moving_average=0.9")
    final = actor(config, store)
    outcome, ways = final.run(data, export=False), final.ways()[0]
    assert "moving average, epoch 3" in ways
    for name, way in ways.items():
        expected = by_hand(final, way.weights, moving=name.startswith("moving"))
        assert outcome.averaged.tried[name] == pytest.approx(metrics(expected, data.validation, config)), name
    chosen = actor(config, store, weights=(1.0, 3.0), moving=True)  # in the same folder: nothing is trained again
    assert chosen.run(data, export=False).averaged.moving is True
    expected = by_hand(chosen, {1: 1.0, 3: 3.0}, moving=True)
    expected.quantise()
    kept = load_tensors(chosen.folder / MODEL)
    assert all(torch.equal(kept[name].float(), value) for name, value in expected.state_dict().items())


def test_model_and_clips_are_put_on_the_task_s_device(config, store, data, monkeypatch):
    places: list[Any] = []
    models: list[Any] = []
    to = Static.to
    monkeypatch.setattr(Static, "to", lambda self, device: places.append(device) or to(self, device))
    monkeypatch.setattr(SceneModel, "to", lambda self, *where: models.append(where) or torch.nn.Module.to(self, *where))
    actor(config, store, weights=(1.0, 3.0)).run(data, export=False)
    assert set(places) == {torch.device("cpu")} and models and (None,) not in models


def test_norms_are_taken_over_the_last_epoch_s_inputs(config, store, data):
    final = actor(config, store)
    final.data = data
    clips = training_clips(final.task, data.train)
    expected = [x for x, _ in batches(clips, config.student.recipe, INPUT, seed=final.task.seed, epoch=3)]
    assert all(torch.equal(x, ours) for x, ours in zip(expected, final.training_inputs(), strict=True))
