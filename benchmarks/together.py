"""Students that are trained as one, against the same students one after another: clips a second of all.

    python -m benchmarks together [STUDENTS ...]       2 and 8 where none is given

The default student, batches of 32 of 4 s, on the GPU where torch can use one, else on one thread.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from features.settings import CONTEXT
from models.batches import Clips
from models.fit import Fit, alone
from models.mobnet import Mobnet
from models.recipe import Recipe
from models.specs import MobnetSpec
from models.static import Static
from models.together import Together
from orchestrator.training.inputs import INPUT
from orchestrator.training.task import hardware, usable

NUMBERS, ROUNDS = (2, 8), 3
MELS, FRAMES, BATCH = 128, 400, 32
CLIPS = {"cpu": 96, "cuda": 2048}  # of an epoch


def trainings(number: int, clips: Clips, device: str) -> list[Fit]:
    """Students that differ in their mixup, as trials of a search do."""
    found = []
    for index in range(number):
        torch.manual_seed(index)
        model = Mobnet(MobnetSpec(), channels=3, scenes=10, groups=3)
        recipe = Recipe(cycle_ends=(1000,), batch_size=BATCH, crop_frames=FRAMES, mixup_alpha=0.1 + 0.1 * index)
        validation = Static.of(torch.rand(2, MELS, FRAMES + 2 * CONTEXT).half())
        found.append(Fit(model, clips, validation, recipe, INPUT, seed=index, device=device, validate_every=1000))
    return found


def one_after_another(students: Sequence[Fit]) -> None:
    for student in students:
        alone(student)


def seconds(train: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    train()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    device = usable("cuda")
    count = CLIPS[device]
    static = torch.rand(count, MELS, FRAMES + 2 * CONTEXT + 23).half()
    scene, group = torch.eye(10)[torch.randint(10, (count,))], torch.eye(3)[torch.randint(3, (count,))]
    clips = Clips(Static.of(static).to(torch.device(device)), scene, group)
    print(
        f"default student, batches of {BATCH} of (3, {MELS}, {FRAMES}), {hardware(device)}, medians of {ROUNDS} rounds"
    )
    print("students   one after another      as one")
    for number in [int(argument) for argument in arguments] or NUMBERS:
        apart, group_of = trainings(number, clips, device), Together(trainings(number, clips, device))
        one_after_another(apart)
        group_of.epoch()
        pairs = [
            (seconds(partial(one_after_another, apart), device), seconds(group_of.epoch, device)) for _ in range(ROUNDS)
        ]
        theirs, ours = (number * count / statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{number:8} {theirs:12.1f} clips/s {ours:10.1f} clips/s   {ours / theirs:.2f} times")
