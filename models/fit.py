"""Training: `Fit` yields one result per epoch, can be resumed, and knows nothing of who calls it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.batches import Channels, Clips, Labeller, batches
from models.heads import Logits
from models.losses import Loss, Targets
from models.optimisers import Optimiser, State
from models.prediction import Predictions, predict
from models.recipe import LOSSES, OPTIMISERS, Recipe
from models.seeding import seeded
from models.static import Static


class Diverged(ArithmeticError):
    """Training produced what is not a finite number."""


@dataclass(frozen=True)
class Snapshot:
    """Everything `Fit` needs to go on after `epoch` as if it had never stopped."""

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


class Fit:
    """One training: an iterator of its epochs. It trains `model` in place, and predicts `validation` at cycle ends and
    every few epochs.

    With `teacher`, a recipe's soft targets are its predictions of each batch, instead of those stored with the clips.

    On the CPU, with the same number of threads, the same arguments give the same bits, resumed or not.
    Raises Diverged where an epoch's loss or what follows from it is not finite.

    An epoch is `begin`, for each batch `loss`, its gradients and `update`, then `end`. `alone` does that for one
    training; models/together.py for several at once.
    """

    def __init__(
        self,
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
    ) -> None:
        """`resume` is what it goes on from; `device` is torch's name of it."""
        self.place = torch.device(device)
        to_channels_last(model.to(self.place))
        self.model, self.recipe, self.channels, self.seed, self.teacher = model, recipe, channels, seed, teacher
        self.train, self.validation = train.to(self.place), validation.to(self.place)
        self.validate_every = validate_every
        self.parameters = dict(model.named_parameters())
        self.criterion: Loss = LOSSES.implementation(recipe.loss)(recipe.loss, recipe)
        self.optimiser: Optimiser = OPTIMISERS.implementation(recipe.optimiser)(recipe.optimiser, recipe)
        self.state = self.optimiser.start(self.parameters)
        self.moving = copies_of(self.parameters) if recipe.moving_average else {}
        self.epoch = 0  # that was begun last
        self.steps = math.ceil(len(train) / recipe.batch_size)  # of an epoch
        if resume is not None:
            self.epoch = resume.epoch
            model.load_state_dict(resume.model)
            for ours, theirs in ((self.state, resume.optimiser), (self.moving, resume.moving)):
                for name, value in ours.items():
                    value.copy_(theirs[name])

    def __iter__(self) -> Iterator[Epoch]:
        """Train epoch by epoch, until the last cycle's end."""
        while not self.is_done:
            yield alone(self)

    @property
    def is_done(self) -> bool:
        return self.epoch >= self.recipe.epochs

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Targets]]:
        """The batches of an epoch."""
        return batches(self.train, self.recipe, self.channels, seed=self.seed, epoch=epoch, teacher=self.teacher)

    def begin(self) -> Iterator[tuple[Tensor, Targets]]:
        """Begin the next epoch: its batches."""
        self.epoch += 1
        self.started = time.perf_counter()
        self.step, self.total, self.rate = 0, torch.zeros((), device=self.place), math.nan
        self.model.train()
        if self.moving and self.epoch - 1 in (0, *self.recipe.cycle_ends):
            self.moving = copies_of(self.parameters)
        return self.batches(self.epoch)

    def loss(self, logits: Logits, targets: Targets) -> Tensor:
        """The loss of a batch. Forgets the gradients of the batch before."""
        self.model.zero_grad()
        loss = self.criterion(logits, targets)
        self.total += loss.detach() * len(logits[0])
        return loss

    def update(self) -> None:
        """One step of the optimiser, by the parameters' gradients."""
        self.rate = self.optimiser.rate(self.epoch - 1 + self.step / self.steps)
        self.optimiser.step(self.parameters, self.state, self.rate)
        follow(self.moving, self.parameters, 1 - self.recipe.moving_average)
        self.step += 1

    def end(self, at: float | None = None) -> Epoch:
        """The epoch's result. Raises Diverged where its loss or what it predicts is not finite.

        `at` is when its last step ended, by time.perf_counter, where that is not now.
        """
        recipe, epoch = self.recipe, self.epoch
        mean = self.total.item() / len(self.train)
        elapsed = (at or time.perf_counter()) - self.started
        if not math.isfinite(mean):
            raise Diverged(f"the loss is {mean} in epoch {epoch}; lower learning_rate ({recipe.learning_rate:g})")
        is_due = epoch in recipe.cycle_ends or epoch % self.validate_every == 0
        predictions = predict(self.model, self.validation, self.channels) if is_due else None
        # The epoch's last step can break what its loss, taken before it, does not show.
        if predictions and not (predictions.scene.isfinite().all() and predictions.group.isfinite().all()):
            raise Diverged(f"predictions are nan after epoch {epoch}; lower learning_rate ({recipe.learning_rate:g})")
        return Epoch(
            number=epoch,
            loss=mean,
            learning_rate=self.rate,
            clips_per_second=len(self.train) / elapsed,
            cycle_end=epoch in recipe.cycle_ends,
            validation=predictions,
            snapshot=self.snapshot,
        )

    def snapshot(self) -> Snapshot:
        """Copies of the state after the epoch that was begun last."""
        return Snapshot(self.epoch, copied(self.model.state_dict()), copied(self.state), copied(self.moving))


def alone(training: Fit) -> Epoch:
    """Train the next epoch. Raises Diverged."""
    drawn = training.begin()
    with seeded(training.seed, "dropout", training.epoch):
        for x, targets in drawn:
            training.loss(training.model(x), targets).backward()
            training.update()
    return training.end()


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
