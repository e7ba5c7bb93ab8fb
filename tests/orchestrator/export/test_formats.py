"""The default student, exported: the file itself, as a device would store and run it."""

import copy
import inspect
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from features.settings import FrontEnd
from features.taxonomy import TAU_GROUPS, Taxonomy
from models.complexity import measure
from models.mobnet import Mobnet
from models.specs import MobnetSpec
from orchestrator.config.experiment import FormatSettings
from orchestrator.export.compact import compact
from orchestrator.export.formats import formats_of
from orchestrator.export.onnx import COMBINED, OUTPUTS, Onnx, OnnxModel, export_onnx
from orchestrator.export.predict import predict
from orchestrator.export.tflite import Tflite, TFLiteModel, export_tflite, weights_in
from orchestrator.export.writers import WRITERS

pytestmark = pytest.mark.integration

SHAPE = (3, 128, 208)


def student_of(spec: MobnetSpec) -> Mobnet:
    """Random weights, and BatchNorm statistics as training would leave them."""
    torch.manual_seed(0)
    model = Mobnet(spec, channels=3, scenes=10, groups=3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(0, 1)
            module.running_var.uniform_(0.5, 2)
    model.quantise()
    return model


@pytest.fixture(scope="module")
def student() -> Mobnet:
    return student_of(MobnetSpec())


@pytest.fixture(scope="module")
def files(student, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("export")
    onnx, tflite = folder / "student.onnx", folder / "student.tflite"
    export_onnx(student, SHAPE, onnx)
    Tflite(FormatSettings("tflite")).write(onnx, tflite)
    return onnx, tflite


def test_formats_are_made_from_their_settings():
    settings = {name: FormatSettings(name, largest_difference=0.1) for name in ("onnx", "tflite")}
    made = formats_of(settings)
    assert {name: (type(one), one.suffix) for name, one in made.items()} == {
        "onnx": (Onnx, ".onnx"),
        "tflite": (Tflite, ".tflite"),
    }
    assert {name: one.settings for name, one in made.items()} == settings


def test_onnx_is_one_file_that_runs_on_one_thread(files, tmp_path):
    onnx, copied = Onnx(FormatSettings("onnx")), tmp_path / "copy.onnx"
    onnx.write(files[0], copied)
    assert copied.read_bytes() == files[0].read_bytes()
    assert sorted(file.name for file in files[0].parent.iterdir()) == ["student.onnx", "student.tflite"]
    options = onnx.load(copied, OUTPUTS).session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.log_severity_level == 3  # errors, no warnings


def test_both_files_say_what_torch_says(student, files):
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [logits.softmax(1).numpy() for logits in student(x)]
    onnx, tflite = files
    for model in (OnnxModel(onnx), TFLiteModel(tflite)):
        scene, group = model.run(x.numpy())
        np.testing.assert_allclose(scene, expected[0], atol=1e-5)
        np.testing.assert_allclose(group, expected[1], atol=1e-5)


def test_input_and_outputs_are_named(files, tmp_path, capsys):
    onnx = Onnx(FormatSettings("onnx")).load(files[0], OUTPUTS)
    tflite = Tflite(FormatSettings("tflite")).load(files[1], OUTPUTS)
    assert [one.name for one in onnx.session.get_inputs()] == ["features"]
    assert [one.name for one in onnx.session.get_outputs()] == ["scene", "group"]
    assert tflite.input["name"] == "serving_default_features:0"
    torch.manual_seed(0)
    alone = Mobnet(MobnetSpec(rows=(16, 16, 16)), channels=3, scenes=10, groups=0)
    alone.quantise()
    export_onnx(alone, SHAPE, tmp_path / "alone.onnx")
    assert "[torch.onnx]" not in capsys.readouterr().out
    assert [one.name for one in OnnxModel(tmp_path / "alone.onnx").session.get_outputs()] == ["scene"]


def test_files_are_the_same_wherever_they_are_made(student, files, tmp_path, monkeypatch):
    """Neither this machine's paths nor the programs that it has are in them."""
    assert str(Path(inspect.getfile(Mobnet)).parent).encode() not in files[0].read_bytes()
    called, program = tmp_path / "called", tmp_path / "onnxsim"
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    export_onnx(student, SHAPE, tmp_path / "student.onnx")
    export_tflite(tmp_path / "student.onnx", tmp_path / "student.tflite")
    assert not called.exists()
    assert [(tmp_path / file.name).read_bytes() for file in files] == [file.read_bytes() for file in files]


def test_a_student_of_one_branch_is_not_cut(student, files):
    import onnx

    operations = {node.op_type for node in onnx.load(files[0]).graph.node}
    assert len(student.branches) == 1 and "Conv" in operations and not operations & {"Split", "Concat"}


def test_the_file_as_it_lies_on_disk_fits_in_128_000_bytes(student, files):
    size = files[1].stat().st_size
    assert measure(student, SHAPE).bytes < size < 128_000


def test_a_file_whose_pooling_hears_the_loudest_moment_says_what_torch_says(tmp_path):
    plain = MobnetSpec(rows=(32, 40), blocks_per_row=4)
    model = student_of(replace(plain, pooling="mean_max"))
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [logits.softmax(1).numpy() for logits in model(x)]
        differs = student_of(plain)(x)[0].softmax(1).numpy()
    export_onnx(model, SHAPE, tmp_path / "student.onnx")
    export_tflite(tmp_path / "student.onnx", tmp_path / "student.tflite")
    for file in (OnnxModel(tmp_path / "student.onnx"), TFLiteModel(tmp_path / "student.tflite")):
        for output, values in zip(file.run(x.numpy()), expected, strict=True):
            np.testing.assert_allclose(output, values, atol=1e-5)
    assert np.abs(differs - expected[0]).max() > 1e-3
    assert measure(model, SHAPE).parameters == measure(student_of(plain), SHAPE).parameters


def test_weights_are_stored_in_fp16_and_aligned(files):
    from ai_edge_litert import schema_py_generated as schema

    data = files[1].read_bytes()
    model = schema.Model.GetRootAs(data, 0)  # pyright: ignore[reportArgumentType]
    graph = model.Subgraphs(0)
    assert graph is not None
    stored = 0
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        assert tensor is not None
        buffer = model.Buffers(tensor.Buffer())
        assert buffer is not None
        if buffer.DataLength() and tensor.Type() == schema.TensorType.FLOAT16:
            stored += buffer.DataLength()
            place = data.index(np.asarray(buffer.DataAsNumpy()).tobytes())
            assert place % 16 == 0
    assert stored == 2 * 59_121


def test_what_no_interpreter_reads_is_not_in_the_file(files):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(files[1].read_bytes(), 0)  # pyright: ignore[reportArgumentType]
    graph: Any = model.Subgraphs(0)
    assert model.Description() is None and model.MetadataIsNone()
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    assert all(tensor.HasRank() != bool(tensor.ShapeLength()) for tensor in tensors)


def test_the_file_s_own_parameters_are_counted(student, files):
    weights = list(weights_in(files[1]))
    assert sum(values.size for values in weights) == 59_121 == measure(student, SHAPE).parameters
    assert sum(int(np.count_nonzero(values)) for values in weights) == measure(student, SHAPE).non_zero
    ours = np.sort(np.concatenate([parameter.detach().numpy().ravel() for parameter in student.parameters()]))
    np.testing.assert_array_equal(np.sort(np.concatenate(weights).astype(np.float32)), ours)


def test_a_file_may_say_the_combined_decision_alone(student, tmp_path):
    """System 3 of the paper: each scene's probability times its group's, renormalised."""
    group_of_scene = [0, 2, 2, 0, 1, 1, 0, 1, 1, 2]
    onnx, tflite = tmp_path / "combined.onnx", tmp_path / "combined.tflite"
    merged = copy.deepcopy(student)
    merged.merge_groups(group_of_scene)
    export_onnx(merged, SHAPE, onnx)
    export_tflite(onnx, tflite)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scene, group = (logits.softmax(1).numpy() for logits in student(x))
    joint = scene * group[:, group_of_scene]
    (combined,) = Tflite(FormatSettings("tflite")).load(tflite, COMBINED).run(x.numpy())
    # The sums of weights are rounded to fp16.
    np.testing.assert_allclose(combined, joint / joint.sum(1, keepdims=True), atol=2e-4)
    assert 2 * (59_121 - 3 * 49) < tflite.stat().st_size < 128_000


def test_compacting_again_changes_nothing(files):
    data = files[1].read_bytes()
    assert compact(data) == data


def test_recordings_are_predicted_by_the_file_and_what_cannot_be_read_is_named(files, tmp_path, capsys):
    taxonomy = Taxonomy.from_groups(TAU_GROUPS)
    shutil.copy(files[1], tmp_path / "student.tflite")
    facts = {"front_end": asdict(FrontEnd(clip_seconds=5.0, n_mels=128)), "decision": "scene", **asdict(taxonomy)}
    (tmp_path / "student.json").write_text(json.dumps(facts))
    (tmp_path / "[red]").mkdir()
    samples = np.random.default_rng(0).normal(0, 0.1, 44100)
    soundfile.write(tmp_path / "[red]" / "a.wav", samples, 44100)
    (tmp_path / "[red]" / "b.[i]m4a").touch()
    lines: list[str] = []
    named = [tmp_path / "[red]", tmp_path / "absent.wav"]
    assert predict(tmp_path / "student.tflite", named, "", None, WRITERS["lines"](lines.append, False)) == 2
    path, shares, _ = lines[0].split("\t")
    assert path == str(tmp_path / "[red]" / "a.wav") and shares.split()[0] in taxonomy.scenes
    assert lines[1] == f"{tmp_path / 'absent.wav'}\tNo such file or directory"
    assert "[i]m4a" in capsys.readouterr().err
