"""PyTorch -> ONNX, and running the ONNX file."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.scene_model import SceneModel
from orchestrator.config.experiment import FormatSettings
from orchestrator.export.formats import COMBINED, INPUT_NAME, OUTPUTS, Outputs


class Deployed(nn.Module):
    """What a device runs: probabilities instead of logits."""

    def __init__(self, student: SceneModel) -> None:
        super().__init__()
        self.student = student

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (clip, channel, mel, frame) to probabilities (clip, class) of each classifier that has classes."""
        return tuple(logits.softmax(1) for logits in self.student(x) if logits.shape[1])


def export_onnx(student: SceneModel, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write a folded `student` for one clip: input "features" (1, channel, mel, frame), outputs "scene" and "group".

    One whose group classifier has been merged has the output "scene" alone, the combined decision (PAPER system 3).
    """
    names = OUTPUTS if student.classifiers.group is not None else COMBINED
    with warnings.catch_warnings():
        # The exporter warns of its own internals; the file is checked by running it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Deployed(student).eval(),
            (torch.zeros(1, *input_shape),),
            str(path),
            input_names=[INPUT_NAME],
            output_names=list(names),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    without_origins(path)


def without_origins(path: Path) -> None:
    """Take out which lines of our code each node stems from: with this machine's paths, the same model has other bytes
    elsewhere.
    """
    import onnx

    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
    onnx.save(model, path)


class OnnxModel:
    """An exported file, loaded by ONNX Runtime on one thread."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, inputs: NDArray[np.float32]) -> Outputs:
        """Probabilities (clip, class) of each output for inputs (clip, channel, mel, frame), one clip at a time."""
        rows = [self.session.run(None, {INPUT_NAME: clip[None]}) for clip in inputs]
        return tuple(np.concatenate(columns) for columns in zip(*rows, strict=True))


class Onnx:
    """ONNX with float32 weights."""

    suffix = ".onnx"

    def __init__(self, settings: FormatSettings) -> None:
        self.settings = settings

    def write(self, onnx: Path, path: Path) -> None:
        shutil.copy(onnx, path)

    def load(self, path: Path, outputs: Sequence[str]) -> OnnxModel:
        return OnnxModel(path)
