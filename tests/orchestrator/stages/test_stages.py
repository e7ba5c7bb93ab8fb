"""Search and final stage on a real Ray, one after another, with everything they keep read back by hand."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from models.prediction import predict
from orchestrator.export.onnx import COMBINED, OUTPUTS
from orchestrator.export.tflite import TFLiteModel
from orchestrator.export.verify import run_over
from orchestrator.monitor.view import View
from orchestrator.stages import final, search
from orchestrator.stages.context import Context, Data
from orchestrator.stages.final_actor import COMBINED_TFLITE, TFLITE
from orchestrator.stages.proposals import Proposals
from orchestrator.stages.recorder import Recorder
from orchestrator.stages.search import Search
from orchestrator.stages.students import best_student, tasks_of
from orchestrator.storage.files import read_json
from orchestrator.storage.tensors import load_tensors
from orchestrator.training.inputs import INPUT
from orchestrator.training.record import Training, Trial
from orchestrator.training.task import build, decide

SPACE = "{recipe.mixup_alpha: {low: 0.1, high: 0.4}}"
SEARCH = f"{{trials: 2, cycle_ends: [1, 2], finalists: {{best: 1, seeds: 1}}, stopping: none, space: {SPACE}}}"


@dataclass(frozen=True)
class Made:
    context: Context
    shown: io.StringIO
    data: Data
    search: Search
    final: Path
    updates: list[tuple[float, float, str]]  # of the search's progress


@pytest.fixture
def config(small):
    return small(f"search={SEARCH}")


@pytest.fixture
def made(config, store, data, request, monkeypatch) -> Made:
    request.getfixturevalue("ray_cluster")
    shown, updates = io.StringIO(), []
    context = Context(config, store, View(Console(file=shown, width=200)), "run")
    show = Recorder.show

    def noted(recorder: Recorder) -> None:
        show(recorder)
        updates.append((recorder.ended, recorder.total(), ",".join(sorted(recorder.done))))

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "show", noted)
        found = search.run(context, [data], [])
    assert found is not None
    folder = final.run(context, data, {}, None, found)
    return Made(context, shown, data, found, folder, updates)


def test_all_that_search_and_final_keep_is_what_they_have_trained(made, config):
    the_search_keeps_its_trials(made)
    the_final_stage_keeps_what_its_files_say(made, config)
    nothing_finished_is_made_again(made, config)


def the_search_keeps_its_trials(made: Made) -> None:
    rows = made.search.trials()
    names = [row.trial for row in rows]
    assert names[0] == "student-01-default" and names[1] == "student-02"
    assert names[2:] == [f"{name}-seed1" for name in names[:2]]  # the last round
    assert {row.state for row in rows} == {"finished"}
    for row in rows:
        last = made.search.rows(row.trial)[-1]
        assert (last["epoch"], last["log_loss"], last["accuracy"]) == (2, row.log_loss, row.accuracy)
    best = next(row for row in rows if row.trial == made.search.best)
    assert made.search.settings == best.settings == made.search.training(best.trial).settings
    evidence = {one.trial: one for one in made.search.evidence()}
    reached = evidence[made.search.best]
    said = f"4 trainings, 4 to the end; chosen {best.trial}: {reached.accuracy:.3f} / {reached.log_loss:.3f}"
    assert said in made.shown.getvalue()
    assert made.updates[0][:2] == (0, 4) and made.updates[-1] == (4, 4, "")
    assert [ended for ended, _, _ in made.updates] == sorted(ended for ended, _, _ in made.updates)


def the_final_stage_keeps_what_its_files_say(made: Made, config) -> None:
    student = best_student(config, made.search)
    assert read_json(made.final / "stage.json")["best_trial"] == made.search.best
    chosen, averages = read_json(made.final / "chosen.json"), read_json(made.final / "averages.json")
    assert set(averages) == set(tasks_of(config, student)) and set(chosen.values()) <= set(averages)
    table = pq.read_table(made.final / "predictions.parquet")
    test = made.data.test
    found = {
        name: np.stack(table.filter(np.array(table["model"].to_pylist()) == name)["scene"].to_pylist())
        for name in set(table["model"].to_pylist())
    }
    ours = {"onnx", "tflite", *averages}
    assert set(found) == ours and all(rows.shape == (len(test), 10) for rows in found.values())
    exported = chosen["plain"]  # the student has no soft labels
    model = build(tasks_of(config, student)[exported])
    model.fold()
    weights = load_tensors(made.final / "student.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    expected = predict(model, test.features.open(), INPUT)
    np.testing.assert_allclose(found[exported], expected.scene, atol=1e-6)
    (scene, _group), _ = run_over(TFLiteModel(made.final / TFLITE, OUTPUTS), test.features.open())
    np.testing.assert_array_equal(found["tflite"], scene)
    np.testing.assert_allclose(scene, expected.scene, atol=1e-4)
    (both,), _ = run_over(TFLiteModel(made.final / COMBINED_TFLITE, COMBINED), test.features.open())
    np.testing.assert_allclose(both, decide(expected, "combined", config.corpus.taxonomy), atol=1e-3)
    facts = read_json(made.final / "export.json")
    assert set(facts["largest_difference_from_torch"]) == {"onnx", "tflite", "tflite_combined"}
    assert facts["file_bytes"]["tflite"] == (made.final / TFLITE).stat().st_size
    assert facts["complexity"]["bytes"] > 0 and facts["input_shape"] == [3, 32, test.features.map.shape[1] - 8]


def nothing_finished_is_made_again(made: Made, config) -> None:
    context = made.context
    before = len(made.shown.getvalue())
    again = search.run(context, [made.data], [])
    assert again is not None and again == made.search
    assert final.run(context, made.data, {}, None, again) == made.final
    said = made.shown.getvalue()[before:]
    assert f"best is {again.best}" in said and "the exported student" in said
    student = best_student(config, again)
    keys = {final.key_for(config, student, made.data, key) for key in ("labels", "others", None)}
    assert len(keys) == 3 and made.final.name in keys


def test_a_search_goes_on_after_its_last_recorded_trial(config):
    """What Tune is given: the next number that has not ended, and the end only when there will be no further one."""

    class Known:
        """Rounds of three trainings, of which the last is known only later."""

        total, is_known = 3, False

        def __init__(self) -> None:
            self.config = config

        def training(self, number: int):
            if number > (3 if self.is_known else 2):
                return None
            return Training("search", f"student-{number}", number, 2)

    rounds = Known()
    ended = Trial(Training("search", "student-1", 1, 2, state="finished"), [])
    begun = Trial(Training("search", "student-2", 2, 2), [])
    proposals = Proposals(rounds, [ended, begun])  # pyright: ignore[reportArgumentType]
    assert proposals.suggest("x")["trial"]["number"] == 2  # pyright: ignore
    assert proposals.suggest("x") is None
    rounds.is_known = True
    assert proposals.suggest("x")["trial"]["number"] == 3  # pyright: ignore
    assert proposals.suggest("x") == Proposals.FINISHED
