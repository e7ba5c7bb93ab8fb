"""ONNX -> TFLite with fp16 weights, and running the file with LiteRT."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.experiment import FormatSettings
from orchestrator.errors import UserError
from orchestrator.export.compact import compact
from orchestrator.export.formats import INPUT_NAME, OUTPUTS, Outputs


def export_tflite(onnx: Path, path: Path) -> None:
    """Convert by way of a Keras model; the input becomes (1, mel, frame, channel).

    onnx2tf's own writers make fp16 files that LiteRT refuses, or give the outputs' names to the wrong ones; and they
    write every format that there is, which takes longer than all the rest.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # the one that onnx2tf uses; TensorFlow imports another as well
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # conversion needs no GPU and must not take its memory
    import onnx2tf
    import tensorflow

    with tempfile.TemporaryDirectory() as folder:
        try:
            model: Any = onnx2tf.convert(
                input_onnx_file_path=str(onnx),
                output_folder_path=folder,
                tflite_backend="tf_converter",
                disable_model_save=True,
                not_use_onnxsim=True,  # it takes a program of that name from PATH, and does without where there is none
                verbosity="error",
            )
        except SystemExit:
            raise UserError(
                f"onnx2tf could not convert {onnx}; its messages are in the log of the final actor"
            ) from None
    features = tensorflow.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name=INPUT_NAME)
    serving: Any = tensorflow.function(model, input_signature=[features], autograph=False)
    function = serving.get_concrete_function()
    variables: Any = tensorflow.Module()  # the Keras model would be saved with all that describes its layers
    variables.serving, variables.all = serving, list(model.variables)
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([function], variables)
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tensorflow.float16]
    path.write_bytes(compact(converter.convert()))


def weights_in(path: Path) -> Iterator[NDArray[np.float16]]:
    """Every constant that a TFLite file stores in fp16: its parameters, which is what the challenge counts."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))  # pyright: ignore[reportArgumentType]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if tensor.type == schema.TensorType.FLOAT16 and data is not None:
                yield np.asarray(data, np.uint8).view(np.float16)


@contextmanager
def without_notices() -> Iterator[None]:
    """Hold back what native code writes to stderr in the block, and pass all of it on but LiteRT's notices.

    They say nothing that a user could act on, and have no switch.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)


class TFLiteModel:
    """An exported file, loaded by LiteRT on one thread."""

    def __init__(self, path: Path, outputs: Sequence[str] = OUTPUTS) -> None:
        """Raises UserError where the file does not load or has not so many outputs."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            with without_notices():
                self.interpreter = Interpreter(model_path=str(path), num_threads=1)
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} does not load in LiteRT: {' '.join(str(error).split())}") from None
        self.input = self.interpreter.get_input_details()[0]
        self.outputs = sorted(self.interpreter.get_output_details(), key=lambda output: output["name"])
        if len(self.outputs) != len(outputs):
            raise UserError(f"{path} has {len(self.outputs)} outputs instead of {' and '.join(outputs)}")

    def run(self, inputs: NDArray[np.float32]) -> Outputs:
        """Probabilities (clip, class) of each output for inputs (clip, channel, mel, frame)."""
        rows = []
        for clip in inputs:
            self.interpreter.set_tensor(self.input["index"], clip.transpose(1, 2, 0)[None])
            self.interpreter.invoke()
            rows.append([self.interpreter.get_tensor(output["index"]) for output in self.outputs])
        return tuple(np.concatenate(columns) for columns in zip(*rows, strict=True))


class Tflite:
    """TFLite with fp16 weights."""

    suffix = ".tflite"

    def __init__(self, settings: FormatSettings) -> None:
        self.settings = settings

    def write(self, onnx: Path, path: Path) -> None:
        export_tflite(onnx, path)

    def load(self, path: Path, outputs: Sequence[str]) -> TFLiteModel:
        return TFLiteModel(path, outputs)
