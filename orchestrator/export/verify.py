"""An export counts only after the exported file has been run: its outputs against torch's, clip by clip."""

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.fit import EVALUATION_BATCH, Predictions
from orchestrator.errors import UserError
from orchestrator.export.onnx import OUTPUTS, Probabilities
from orchestrator.training import INPUT, tensor

LARGEST_DIFFERENCE = 1e-3  # in probability


class Runnable(Protocol):
    def run(self, inputs: NDArray[np.float32]) -> Probabilities: ...


@dataclass(frozen=True)
class Verified:
    scene: NDArray[np.float32]  # (clip, scene)
    group: NDArray[np.float32]  # (clip, group)
    differences: dict[str, float]  # output -> largest difference from torch
    seconds_per_clip: float  # the file's own run, without front end and deltas


def run_over(model: Runnable, static: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Both outputs over whole clips, static (clip, mel, frame), and the seconds that the model itself took a clip."""
    parts, seconds = [], 0.0
    for start in range(0, len(static), EVALUATION_BATCH):
        inputs = INPUT.expand(tensor(static[start : start + EVALUATION_BATCH]).float())
        started = time.perf_counter()
        parts.append(model.run(inputs.numpy()))
        seconds += time.perf_counter() - started
    scene, group = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return scene, group, seconds / len(static)


def verify(name: str, model: Runnable, static: NDArray[np.float16], torchs: Predictions) -> Verified:
    """Run `model` over all of `static` and compare each named output. Raises UserError beyond the limit."""
    scene, group, seconds = run_over(model, static)
    differences = {}
    for output, ours, theirs in zip(OUTPUTS, (torchs.scene, torchs.group), (scene, group), strict=True):
        if ours.shape != theirs.shape:
            raise UserError(f"{name}: output '{output}' has shape {theirs.shape}, torch's has {tuple(ours.shape)}")
        differences[output] = float(np.abs(ours.numpy() - theirs).max())
        if not differences[output] <= LARGEST_DIFFERENCE:
            raise UserError(
                f"{name}: output '{output}' differs from torch by {differences[output]:.2g} in probability; "
                f"at most {LARGEST_DIFFERENCE:g} is allowed"
            )
    return Verified(scene, group, differences, seconds)
