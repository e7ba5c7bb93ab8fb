"""What the final actor exports, in this process: files against torch. ONNX stands for TFLite, which takes long."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from models.complexity import measure
from models.prediction import predict
from orchestrator.config.experiment import FormatSettings
from orchestrator.errors import UserError
from orchestrator.export.onnx import Onnx, OnnxModel
from orchestrator.export.verify import run_over
from orchestrator.stages import final_actor
from orchestrator.stages.computed import compute
from orchestrator.stages.cuts import load_cuts
from orchestrator.stages.final_actor import COMBINED_TFLITE, MODEL, TFLITE
from orchestrator.storage.store import Store
from orchestrator.training.inputs import INPUT
from orchestrator.training.task import decide
from tests.orchestrator.stages.test_final_actor import actor

BOTH, ONNX = ("scene", "group"), "student.onnx"


class InItsPlace(Onnx):
    """A format whose files are ONNX; notes which outputs a file is loaded with."""

    def __init__(self, settings: FormatSettings, suffix: str, loaded: list[tuple[str, Sequence[str]]]) -> None:
        super().__init__(settings)
        self.suffix, self.loaded = suffix, loaded

    def load(self, path: Path, outputs: Sequence[str]) -> OnnxModel:
        self.loaded.append((path.name, outputs))
        return OnnxModel(path)


@pytest.fixture
def config(small):
    return small("test_shifts=[0, 4]", "student.model.rows=[8, 8, 8]")


@pytest.fixture
def loaded(monkeypatch) -> list[tuple[str, Sequence[str]]]:
    """Files that were loaded, and their outputs."""
    found: list[tuple[str, Sequence[str]]] = []

    def formats_of(export: dict[str, FormatSettings]) -> dict[str, InItsPlace]:
        return {name: InItsPlace(settings, f".{name}", found) for name, settings in export.items()}

    monkeypatch.setattr(final_actor, "formats_of", formats_of)
    return found


def test_every_file_is_run_over_the_test_split_and_measured(config, store, data, loaded, monkeypatch):
    pushed: list[str] = []
    monkeypatch.setattr(Store, "push", lambda self, path, *_: pushed.append(path.name))
    final = actor(config, store, weights=(1.0, 3.0))
    outcome, student, static = final.run(data, export=True), final.student(), data.test.features.open()
    assert loaded == [(ONNX, BOTH), (TFLITE, BOTH), (COMBINED_TFLITE, ("scene",))]
    assert {MODEL, *(name for name, _ in loaded)} <= set(pushed)
    assert outcome.predictions.keys() == {"plain", "onnx", "tflite"}
    for name in ("onnx", "tflite"):
        (scene, group), _ = run_over(OnnxModel(final.folder / f"student.{name}"), static, (0, 4))
        np.testing.assert_array_equal(outcome.predictions[name].scene, scene)  # the file's own, not torch's
        np.testing.assert_array_equal(outcome.predictions[name].group, group)
    views = [predict(student, static, INPUT, (shift,)) for shift in (0, 4)]
    together = np.mean([decide(view, "combined", config.corpus.taxonomy) for view in views], axis=0)
    np.testing.assert_allclose(final.combined(student, data.test), together, rtol=1e-6)
    (combined,), _ = run_over(OnnxModel(final.folder / COMBINED_TFLITE), static, (0, 4))
    np.testing.assert_allclose(combined, together, atol=1e-3)
    facts, shape = outcome.facts, (3, 32, static.shape[2] - 8)
    assert facts["input_shape"] == list(shape) and facts["complexity"] == asdict(measure(student, shape))
    differences = facts["largest_difference_from_torch"]
    outputs = {name: set(of) for name, of in differences.items()}
    assert outputs == {"onnx": set(BOTH), "tflite": set(BOTH), "tflite_combined": {"scene"}}
    assert facts["seconds_per_clip"].keys() == differences.keys() and min(facts["seconds_per_clip"].values()) > 0
    files = dict(zip(differences, loaded, strict=True))
    assert facts["file_bytes"] == {name: (final.folder / file).stat().st_size for name, (file, _) in files.items()}


def test_without_a_test_split_the_files_are_compared_on_the_training_s_clips(config, store, data, loaded):
    nothing = data.test.take(np.zeros(len(data.test), bool))
    outcome = actor(config, store, weights=(1.0, 3.0)).run(replace(data, test=nothing), export=True)
    assert outcome.predictions == {} and len(outcome.facts["largest_difference_from_torch"]) == len(loaded) == 3


def test_without_groups_there_is_no_combined_file(small, store, loaded):
    scenes = ", ".join(small().corpus.taxonomy.scenes)
    config = small("corpus.groups=null", f"corpus.scenes=[{scenes}]", "student.model.rows=[8, 8, 8]")
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    outcome = actor(config, store, weights=(1.0, 3.0)).run(data, export=True)
    assert [name for name, _ in loaded] == [ONNX, TFLITE]
    assert outcome.predictions["onnx"].group.shape == (len(data.test), 0)


@pytest.mark.usefixtures("loaded")
def test_a_file_that_differs_is_named(config, store, data, monkeypatch):
    run = OnnxModel.run
    monkeypatch.setattr(OnnxModel, "run", lambda self, inputs: tuple(rows + 0.01 for rows in run(self, inputs)))
    with pytest.raises(UserError, match=r"^onnx: output 'scene' differs from torch by 0.01 .* at most 0.001"):
        actor(config, store, weights=(1.0, 3.0)).run(data, export=True)
