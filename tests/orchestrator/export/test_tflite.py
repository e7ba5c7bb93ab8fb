"""What a conversion is asked for, how a file is loaded, and what both say when they fail: without TensorFlow."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.export.formats import COMBINED, OUTPUTS
from orchestrator.export.tflite import TFLiteModel, export_tflite, without_notices


def test_a_conversion_is_quiet_keeps_nothing_beside_and_says_that_it_failed(tmp_path, monkeypatch):
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
    for name in environment:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    asked: dict[str, Any] = {}

    def convert(**options: Any) -> None:
        asked.update(options)
        assert Path(options["output_folder_path"]).is_dir()
        assert {name: os.environ[name] for name in environment} == environment
        raise SystemExit(1)

    monkeypatch.setitem(sys.modules, "onnx2tf", SimpleNamespace(convert=convert))
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    with pytest.raises(UserError, match=r"^onnx2tf could not convert student\.onnx; its messages are in the log"):
        export_tflite(Path("student.onnx"), tmp_path / "student.tflite")
    assert not Path(asked.pop("output_folder_path")).exists()
    assert asked == {
        "input_onnx_file_path": "student.onnx",
        "tflite_backend": "tf_converter",
        "disable_model_save": True,
        "not_use_onnxsim": True,
        "verbosity": "error",
    }


def test_what_is_no_model_does_not_load(tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"x" * 64)
    named = re.escape(str(bad))
    with pytest.raises(UserError, match=f"^{named} does not load in LiteRT: Model provided has model identifier "):
        TFLiteModel(bad)


class Interpreter:
    """In LiteRT's place: a file of two outputs, in the wrong order."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def allocate_tensors(self) -> None:
        self.is_ready = True

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"name": "features"}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"name": "call:1"}, {"name": "call:0"}]


def test_a_file_is_loaded_on_one_thread_and_has_as_many_outputs_as_are_named(monkeypatch):
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Interpreter)
    model = TFLiteModel(Path("m.tflite"))
    loaded: Any = model.interpreter
    assert loaded.options == {"model_path": "m.tflite", "num_threads": 1} and loaded.is_ready
    assert [output["name"] for output in model.outputs] == ["call:0", "call:1"]
    with pytest.raises(UserError, match=r"^m\.tflite has 2 outputs instead of scene$"):
        TFLiteModel(Path("m.tflite"), COMBINED)
    with pytest.raises(UserError, match="has 2 outputs instead of scene and group and more$"):
        TFLiteModel(Path("m.tflite"), (*OUTPUTS, "more"))


def test_notices_of_native_code_are_held_back_and_nothing_else(capfd):
    with without_notices():
        os.write(2, b"INFO: Created a delegate\nERROR: no memory\n")
        os.write(2, b"another line\n")
    os.write(2, b"INFO: afterwards\n")
    assert capfd.readouterr().err == "ERROR: no memory\nanother line\nINFO: afterwards\n"
