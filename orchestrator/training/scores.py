"""How each clip was predicted: what paired comparisons of trainings are made of. Without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from features.files import replacing
from orchestrator.storage.files import readable
from orchestrator.training.metrics import Floats, Ints, losses


@dataclass(frozen=True)
class Scores:
    """Of the clips of one split, in their order."""

    loss: NDArray[np.float32]  # (clip,) -ln p(label)
    hit: NDArray[np.bool_]  # (clip,) whether the most probable scene is the label

    @classmethod
    def of(cls, labels: Ints, probabilities: Floats) -> "Scores":
        """labels (clip,), probabilities (clip, scene)."""
        return cls(losses(labels, probabilities).astype(np.float32), probabilities.argmax(1) == labels)

    @classmethod
    def joined(cls, parts: "Sequence[Scores]") -> "Scores":
        """Of the clips of several splits, one after another."""
        return cls(np.concatenate([one.loss for one in parts]), np.concatenate([one.hit for one in parts]))


def save_scores(path: Path, scores: dict[int, Scores]) -> None:
    """Scores by epoch, as one safetensors file of a few kilobytes."""
    arrays = {f"loss-{epoch:04d}": found.loss for epoch, found in scores.items()}
    arrays |= {f"hit-{epoch:04d}": found.hit for epoch, found in scores.items()}
    with replacing(path) as temporary:
        save_file(arrays, temporary)


def load_scores(path: Path) -> dict[int, Scores]:
    """By epoch; none where there is no file. Raises Unreadable where it is damaged."""
    if not path.exists():
        return {}
    with readable(path, SafetensorError):
        arrays = load_file(path)
    epochs = sorted({int(name.partition("-")[2]) for name in arrays})
    return {epoch: Scores(arrays[f"loss-{epoch:04d}"], arrays[f"hit-{epoch:04d}"]) for epoch in epochs}
