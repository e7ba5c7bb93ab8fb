"""Training: `fit` yields one result per epoch, can be resumed, and knows nothing of who calls it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.batches import Channels, Clips, Labeller, Targets, batches
from models.heads import Logits
from models.losses import classifier_loss
from models.prediction import Predictions, predict
from models.recipe import Recipe
from models.schedule import learning_rate
from models.seeding import seeded


class Diverged(ArithmeticError):
    """Training produced what is not a finite number."""


@dataclass(frozen=True)
class Snapshot:
    """Everything `fit` needs to go on after `epoch` as if it had never stopped."""

    epoch: int
    model: dict[str, Tensor]
    momentum: dict[str, Tensor]


@dataclass(frozen=True)
class Epoch:
    number: int  # from 1
    loss: float  # mean over the epoch's clips
    learning_rate: float  # of the last step
    clips_per_second: float  # training alone, without validation
    cycle_end: bool
    validation: Predictions
    snapshot: Callable[[], Snapshot]  # copies the state when called: call it before the next epoch


def fit(
    model: nn.Module,
    train: Clips,
    validation: Tensor,
    recipe: Recipe,
    channels: Channels,
    *,
    seed: int,
    teacher: Labeller | None = None,
    resume: Snapshot | None = None,
    device: str = "cpu",
) -> Iterator[Epoch]:
    """Train `model` in place with SGD; after each epoch predict `validation`, float16 (clip, mel, frame).

    With `teacher`, a recipe's soft targets are what it says of each batch, instead of those stored with the clips.

    On the CPU, with the same number of threads, the same arguments give the same bits, resumed or not.
    Raises Diverged where an epoch's loss or what follows from it is not finite.
    """
    place = torch.device(device)
    to_channels_last(model.to(place))
    train, validation = train.to(place), validation.to(place)
    parameters = dict(model.named_parameters())
    momentum = {name: torch.zeros_like(value) for name, value in parameters.items()}
    if resume is not None:
        model.load_state_dict(resume.model)
        for name, value in momentum.items():
            value.copy_(resume.momentum[name])

    def snapshot(epoch: int) -> Snapshot:
        return Snapshot(epoch, copied(model.state_dict()), copied(momentum))

    steps = math.ceil(len(train) / recipe.batch_size)
    for epoch in range(resume.epoch + 1 if resume else 1, recipe.epochs + 1):
        started = time.perf_counter()
        total, rate = torch.zeros((), device=place), math.nan
        model.train()
        with seeded(seed, "dropout", epoch):
            drawn = batches(train, recipe, channels, seed=seed, epoch=epoch, teacher=teacher)
            for step, (x, targets) in enumerate(drawn):
                position = epoch - 1 + step / steps
                rate = learning_rate(position, recipe.cycle_ends, recipe.learning_rate, recipe.final_learning_rate)
                loss = joint_loss(model(x), targets, recipe)
                model.zero_grad()
                loss.backward()
                descend(parameters, momentum, recipe, rate)
                total += loss.detach() * len(x)
        mean = total.item() / len(train)
        elapsed = time.perf_counter() - started
        if not math.isfinite(mean):
            raise Diverged(f"the loss is {mean} in epoch {epoch}; lower learning_rate ({recipe.learning_rate:g})")
        predictions = predict(model, validation, channels)
        # The epoch's last step can break what its loss, taken before it, does not show.
        if not (predictions.scene.isfinite().all() and predictions.group.isfinite().all()):
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


@torch.no_grad()
def descend(parameters: Mapping[str, Tensor], momentum: dict[str, Tensor], recipe: Recipe, rate: float) -> None:
    """One step of SGD with momentum and weight decay, in place: bit for bit what torch.optim.SGD does.

    Written out, because building torch.optim.SGD imports torch's compiler: seconds in every trial's process.
    """
    for name, value in parameters.items():
        assert value.grad is not None
        momentum[name].mul_(recipe.momentum).add_(value.grad.add(value, alpha=recipe.weight_decay))
        value.add_(momentum[name], alpha=-rate)


def joint_loss(logits: Logits, targets: Targets, recipe: Recipe) -> Tensor:
    """PAPER 2.2: scene_weight * scene loss + (1 - scene_weight) * group loss."""
    scene_soft, group_soft = recipe.soft_weights
    scene = classifier_loss(logits[0], targets.scene, targets.soft_scene, scene_soft, recipe.temperature)
    group = classifier_loss(logits[1], targets.group, targets.soft_group, group_soft, recipe.temperature)
    return recipe.scene_weight * scene + (1 - recipe.scene_weight) * group


def to_channels_last(model: nn.Module) -> None:
    """Lay out convolution weights as NHWC, in place: twice as fast as NCHW on a CPU (docs/lab-notes.md)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """CPU copies in the plain layout, which is what files hold."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
