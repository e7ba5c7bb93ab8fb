"""Training: `fit` yields one result per epoch, can be resumed, and knows nothing of who calls it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.batches import Channels, Clips, Labeller, batches
from models.losses import Loss
from models.optimisers import Optimiser, State
from models.prediction import Predictions, predict
from models.recipe import LOSSES, OPTIMISERS, Recipe
from models.seeding import seeded
from models.static import Static


class Diverged(ArithmeticError):
    """Training produced what is not a finite number."""


@dataclass(frozen=True)
class Snapshot:
    """Everything `fit` needs to go on after `epoch` as if it had never stopped."""

    epoch: int
    model: dict[str, Tensor]
    optimiser: State
    moving: State = field(default_factory=dict)  # the parameters' moving average over the cycle, where there is one


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch of training."""

    number: int  # from 1
    loss: float  # mean over the epoch's clips
    learning_rate: float  # of the last step
    clips_per_second: float  # training alone, without validation
    cycle_end: bool
    validation: Predictions | None  # of the validation clips; None where this epoch is not validated
    snapshot: Callable[[], Snapshot]  # copies the state when called: call it before the next epoch


def fit(
    model: nn.Module,
    train: Clips,
    validation: Static,
    recipe: Recipe,
    channels: Channels,
    *,
    seed: int,
    teacher: Labeller | None = None,
    resume: Snapshot | None = None,
    device: str = "cpu",
    validate_every: int = 1,
) -> Iterator[Epoch]:
    """Train `model` in place; predict `validation` at cycle ends and every few epochs.

    With `teacher`, a recipe's soft targets are its predictions of each batch, instead of those stored with the clips.

    On the CPU, with the same number of threads, the same arguments give the same bits, resumed or not.
    Raises Diverged where an epoch's loss or what follows from it is not finite.
    """
    place = torch.device(device)
    to_channels_last(model.to(place))
    train, validation = train.to(place), validation.to(place)
    parameters = dict(model.named_parameters())
    criterion: Loss = LOSSES.implementation(recipe.loss)(recipe.loss, recipe)
    optimiser: Optimiser = OPTIMISERS.implementation(recipe.optimiser)(recipe.optimiser, recipe)
    state = optimiser.start(parameters)
    moving = copies_of(parameters) if recipe.moving_average else {}
    if resume is not None:
        model.load_state_dict(resume.model)
        for ours, theirs in ((state, resume.optimiser), (moving, resume.moving)):
            for name, value in ours.items():
                value.copy_(theirs[name])

    def snapshot(epoch: int) -> Snapshot:
        return Snapshot(epoch, copied(model.state_dict()), copied(state), copied(moving))

    steps = math.ceil(len(train) / recipe.batch_size)
    for epoch in range(resume.epoch + 1 if resume else 1, recipe.epochs + 1):
        started = time.perf_counter()
        total, rate = torch.zeros((), device=place), math.nan
        model.train()
        if moving and epoch - 1 in (0, *recipe.cycle_ends):
            moving = copies_of(parameters)
        with seeded(seed, "dropout", epoch):
            drawn = batches(train, recipe, channels, seed=seed, epoch=epoch, teacher=teacher)
            for step, (x, targets) in enumerate(drawn):
                rate = optimiser.rate(epoch - 1 + step / steps)
                loss = criterion(model(x), targets)
                model.zero_grad()
                loss.backward()
                optimiser.step(parameters, state, rate)
                follow(moving, parameters, 1 - recipe.moving_average)
                total += loss.detach() * len(x)
        mean = total.item() / len(train)
        elapsed = time.perf_counter() - started
        if not math.isfinite(mean):
            raise Diverged(f"the loss is {mean} in epoch {epoch}; lower learning_rate ({recipe.learning_rate:g})")
        is_due = epoch in recipe.cycle_ends or epoch % validate_every == 0
        predictions = predict(model, validation, channels) if is_due else None
        # The epoch's last step can break what its loss, taken before it, does not show.
        if predictions and not (predictions.scene.isfinite().all() and predictions.group.isfinite().all()):
            raise Diverged(f"predictions are nan after epoch {epoch}; lower learning_rate ({recipe.learning_rate:g})")
        yield Epoch(
            number=epoch,
            loss=mean,
            learning_rate=rate,
            clips_per_second=len(train) / elapsed,
            cycle_end=epoch in recipe.cycle_ends,
            validation=predictions,
            snapshot=lambda epoch=epoch: snapshot(epoch),
        )


def copies_of(parameters: Mapping[str, Tensor]) -> State:
    return {name: value.detach().clone() for name, value in parameters.items()}


@torch.no_grad()
def follow(moving: State, parameters: Mapping[str, Tensor], share: float) -> None:
    """Move an exponential moving average by `share` of the way to the parameters, in place."""
    for name, value in moving.items():
        value.lerp_(parameters[name], share)


def to_channels_last(model: nn.Module) -> None:
    """Lay out convolution weights as NHWC, in place: twice as fast as NCHW on a CPU (docs/lab-notes.md).

    There oneDNN computes them, which rounds alike on CPUs of all makers. With one thread and fewer than 16 clips, torch
    takes MKL for kernels of one bin and frame, unless these are dilated, which changes nothing else.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
            if module.kernel_size == (1, 1) and module.weight.device.type == "cpu":
                module.dilation = (2, 2)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies in the plain layout, which is what files hold."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
