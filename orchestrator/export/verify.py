"""An export counts only after the exported file has been run: its outputs against torch's, clip by clip."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.prediction import EVALUATION_BATCH
from models.static import Static
from orchestrator.errors import UserError
from orchestrator.export.formats import Runnable
from orchestrator.training.inputs import INPUT


@dataclass(frozen=True)
class Verified:
    """How far a file's probabilities are from torch's, and how long it takes."""

    outputs: dict[str, NDArray[np.float32]]  # name -> (clip, class)
    differences: dict[str, float]  # output -> largest difference from torch
    seconds_per_clip: float  # the file's own run, without front end and deltas


def run_over(
    model: Runnable, static: Static, shifts: Sequence[int] = (0,)
) -> tuple[tuple[NDArray[np.float32], ...], float]:
    """Each output over whole clips, and the seconds that one run of the model took.

    With `shifts`, an output is its mean over the shifted clip, as in models/fit.py: predict.
    """
    parts, seconds = [], 0.0
    for rows in static.split(EVALUATION_BATCH):
        part, views = rows.float(), []
        for shift in shifts:
            inputs = INPUT.expand(part.roll(-shift, 2)).numpy()
            started = time.perf_counter()
            views.append(model.run(inputs))
            seconds += time.perf_counter() - started
        parts.append([np.mean(view, axis=0) for view in zip(*views, strict=True)])
    outputs = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return outputs, seconds / (len(static) * len(shifts))


def verify(
    name: str,
    model: Runnable,
    static: Static,
    expected: Mapping[str, NDArray[np.float32]],
    shifts: Sequence[int] = (0,),
    *,
    largest_difference: float,
) -> Verified:
    """Run `model` over all of `static` and compare each output, in order, with torch's: name -> (clip, class).

    Raises UserError beyond `largest_difference`, in probability.
    """
    outputs, seconds = run_over(model, static, shifts)
    differences = {}
    for (output, ours), theirs in zip(expected.items(), outputs, strict=True):
        if ours.shape != theirs.shape:
            raise UserError(f"{name}: output '{output}' has shape {theirs.shape}, torch's has {ours.shape}")
        differences[output] = float(np.abs(ours - theirs).max())
        if not differences[output] <= largest_difference:
            raise UserError(
                f"{name}: output '{output}' differs from torch by {differences[output]:.2g} in probability; "
                f"at most {largest_difference:g} is allowed"
            )
    return Verified(dict(zip(expected, outputs, strict=True)), differences, seconds)
