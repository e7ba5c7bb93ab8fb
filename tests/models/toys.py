"""A small student, and clips for it, that trainings are tried with."""

from functools import cache

import torch

from features.frontend import CONTEXT, with_deltas
from models.batches import Channels, Clips
from models.specs import MobnetSpec
from models.static import Static

DELTAS = Channels(with_deltas, CONTEXT)
SPEC = MobnetSpec(stem=6, rows=(6, 8), blocks_per_row=2, tail=8, shared=6)


@cache
def clips(count: int = 10, seed: int = 0) -> Clips:
    """Random features, three scenes in two groups, random teachers; a feature map is 16 x 24."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.arange(count) % 3
    return Clips(
        static=Static.of(torch.rand(count, 16, 24, generator=generator).half()),
        scene=torch.eye(3)[scene],
        group=torch.eye(2)[(scene == 2).long()],
        soft_scene=torch.log_softmax(2 * torch.randn(count, 3, generator=generator), 1),
        soft_group=torch.log_softmax(2 * torch.randn(count, 2, generator=generator), 1),
    )
