"""The training loop against a bare torch loop over tensors already in memory: same model, same batches' size."""

import statistics
import time

import torch
from torch.nn import functional as F

from features.frontend import with_deltas
from features.settings import CONTEXT
from models.batches import Channels, Clips
from models.fit import Fit, to_channels_last
from models.mobnet import Mobnet
from models.recipe import Recipe
from models.specs import MobnetSpec
from models.static import Static

CLIPS, BATCH, FRAMES, ROUNDS = 96, 32, 400, 6


def bare(model: Mobnet, x: torch.Tensor, scene: torch.Tensor, group: torch.Tensor) -> float:
    """Clips a second of forward, loss, backward, step; nothing else."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    model.train()
    started = time.perf_counter()
    for part in torch.arange(CLIPS).split(BATCH):
        scenes, groups = model(x[part])
        loss = 0.9 * F.cross_entropy(scenes, scene[part]) + 0.1 * F.cross_entropy(groups, group[part])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return CLIPS / (time.perf_counter() - started)


def main(_arguments: list[str]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    static = torch.rand(CLIPS, 128, FRAMES + 2 * CONTEXT + 23).half()
    scene, group = torch.eye(10)[torch.randint(10, (CLIPS,))], torch.eye(3)[torch.randint(3, (CLIPS,))]
    x = with_deltas(static.float())[..., :FRAMES].contiguous(memory_format=torch.channels_last)
    shape = {"channels": 3, "scenes": 10, "groups": 3}
    peer, ours = Mobnet(MobnetSpec(), **shape), Mobnet(MobnetSpec(), **shape)
    to_channels_last(peer)
    training = Fit(
        ours,
        Clips(Static.of(static), scene, group),
        Static.of(static[:1]),
        Recipe(cycle_ends=(ROUNDS + 1,), batch_size=BATCH, crop_frames=FRAMES),
        Channels(with_deltas, CONTEXT),
        seed=0,
    )
    epochs = iter(training)
    bare(peer, x, scene, group)
    next(epochs)
    # Alternating rounds: what else the machine does meets both.
    pairs = [(bare(peer, x, scene, group), epoch.clips_per_second) for epoch in epochs]
    theirs, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
    slower = statistics.median(other / own - 1 for other, own in pairs)
    print(f"student, batch {BATCH} of (3, 128, {FRAMES}), one thread, medians of {ROUNDS} alternating rounds")
    print(f"bare loop, tensors in memory            {theirs:6.1f} clips/s")
    print(f"fit: crop, mixup, deltas, schedule      {mine:6.1f} clips/s   {100 * slower:+.1f} % time")
