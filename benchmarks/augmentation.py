"""Deltas and augmentation on the training device, beside the student's step that they feed."""

import statistics
import time

import torch

from features.frontend import with_deltas
from features.settings import CONTEXT
from models.batches import Channels, Clips, batches
from models.fit import Fit
from models.mobnet import Mobnet
from models.recipe import MixStyleSettings, Recipe
from models.specs import MobnetSpec
from models.static import Static

CLIPS, BATCH, FRAMES, ROUNDS = 96, 32, 400, 6
KINDS = {
    "deltas, crop, mixup": {},
    "and time shift, masks, MixStyle": {
        "time_shift": True,
        "mel_mask": 12,
        "time_mask": 39,
        "augment": {"mixstyle": MixStyleSettings(probability=0.5)},
    },
}


def main(_arguments: list[str]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    static = torch.rand(CLIPS, 128, FRAMES + 2 * CONTEXT + 23).half()
    clips = Clips(
        Static.of(static), torch.eye(10)[torch.randint(10, (CLIPS,))], torch.eye(3)[torch.randint(3, (CLIPS,))]
    )
    channels = Channels(with_deltas, CONTEXT)
    print(f"student, batch {BATCH} of (3, 128, {FRAMES}), one thread, medians of {ROUNDS} rounds")
    for name, more in KINDS.items():
        recipe = Recipe(cycle_ends=(ROUNDS + 1,), batch_size=BATCH, crop_frames=FRAMES, **more)
        student = Mobnet(MobnetSpec(), channels=3, scenes=10, groups=3)
        epochs = iter(Fit(student, clips, Static.of(static[:1]), recipe, channels, seed=0))
        next(epochs)
        shares = []
        for epoch in epochs:
            started = time.perf_counter()
            for _ in batches(clips, recipe, channels, seed=0, epoch=epoch.number):
                pass
            shares.append((time.perf_counter() - started) / (CLIPS / epoch.clips_per_second))
        print(f"{name:<34}{100 * statistics.median(shares):5.1f} % of a step")
