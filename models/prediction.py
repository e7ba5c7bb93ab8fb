"""Predictions of whole clips by both classifiers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.batches import Channels
from models.static import Static

EVALUATION_BATCH = 32


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the two classifiers, float32 (clip, class), on the CPU."""

    scene: Tensor
    group: Tensor


@torch.inference_mode()
def predict(model: nn.Module, static: Static, channels: Channels, shifts: Sequence[int] = (0,)) -> Predictions:
    """Both classifiers' probabilities of whole clips. Leaves the model in eval mode.

    With `shifts`, their mean over the clip in these circular shifts, in frames
    (test-time augmentation, as Krizhevsky et al. 2012 average over shifted crops).
    """
    model.eval()
    place = next(model.parameters()).device
    rows = []
    for part in static.split(EVALUATION_BATCH):
        views = [
            [logits.softmax(1) for logits in model(channels.model_input(part.to(place).float().roll(-shift, 2)))]
            for shift in shifts
        ]
        rows.append([torch.stack(view).mean(0) for view in zip(*views, strict=True)])
    scene, group = (torch.cat(columns).cpu() for columns in zip(*rows, strict=True))
    return Predictions(scene, group)
