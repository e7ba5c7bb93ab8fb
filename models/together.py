"""Trainings of one architecture, as one: a step of all is one pass through a model as many times as wide.

Each keeps its own model, recipe, seed and optimiser; its batches are cut, mixed and masked by its own draws. Side by
side in the channels they go through convolutions whose groups are the models, so that a GPU launches each layer once.
Nothing of one model reaches another: each learns what it learns `alone`, but for rounding, and on a GPU for other
draws of the same dropout.
"""

import copy
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.batches import Targets
from models.fit import Diverged, Epoch, Fit
from models.heads import Logits
from models.seeding import derive

RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)
"""Layers that draw from torch's one generator."""
CLOSE = 1e-3  # of a model's largest score: rounding is less


class NotAlike(ValueError):
    """These models cannot be trained as one."""


class Dropouts(nn.Module):
    """The models' dropout, each drawn from a generator of its own, as it would be alone on a CPU."""

    def __init__(self, probability: float, models: int) -> None:
        super().__init__()
        self.keep, self.models = 1 - probability, models
        self.generators: list[torch.Generator] = []

    def forward(self, x: Tensor) -> Tensor:
        """x is (batch, model * channel, mel, frame)."""
        if not self.training:
            return x
        parts = zip(x.chunk(self.models, 1), self.generators, strict=True)
        return torch.cat([self.dropped(part, generator) for part, generator in parts], 1)

    def dropped(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One model's part, as `F.dropout` computes it."""
        return x * torch.empty_like(x).bernoulli_(self.keep, generator=generator).div_(self.keep)


class Together:
    """Trainings whose models are of one architecture, and whose epochs have as many steps of batches of one shape."""

    def __init__(self, trainings: Sequence[Fit]) -> None:
        """Raises NotAlike where the models' layers cannot be joined."""
        self.trainings = list(trainings)
        self.models = [training.model for training in trainings]
        self.wide = side_by_side(self.models)
        self.dropouts = [module for module in self.wide.modules() if isinstance(module, Dropouts)]

    def epoch(self) -> list[Epoch | Diverged]:
        """Train the next epoch of each."""
        drawn = [training.begin() for training in self.trainings]
        self.wide.train()
        generators = [
            torch.Generator(training.place).manual_seed(derive(training.seed, "dropout", training.epoch))
            for training in self.trainings
        ]
        for dropout in self.dropouts:
            dropout.generators = generators
        for parts in zip(*drawn, strict=True):
            inputs, targets = zip(*parts, strict=True)
            torch.stack(self.losses(self.scores(inputs), targets)).sum().backward()
            for training in self.trainings:
                training.update()
        for training in self.trainings:
            for module in training.model.modules():
                if isinstance(module, nn.BatchNorm2d) and module.num_batches_tracked is not None:
                    module.num_batches_tracked += training.steps
        self.trainings[0].total.item()  # waits for the device
        now = time.perf_counter()
        return [ended(training, now) for training in self.trainings]

    def losses(self, scores: Sequence[Logits], targets: Sequence[Targets]) -> list[Tensor]:
        """Each training's loss of its batch."""
        own = zip(self.trainings, scores, targets, strict=True)
        return [training.loss(logits, target) for training, logits, target in own]

    def scores(self, inputs: Sequence[Tensor]) -> list[Logits]:
        """Each model's logits of its own batch."""
        parameters = [training.parameters for training in self.trainings]
        weights = {name: torch.cat([own[name] for own in parameters]) for name in parameters[0]}
        x = torch.cat(list(inputs), 1).contiguous(memory_format=torch.channels_last)
        scene, group = functional_call(self.wide, weights, (x,))
        return list(zip(self.parts(scene), self.parts(group), strict=True))

    def parts(self, scores: Tensor) -> tuple[Tensor, ...]:
        """(batch, model * class) -> of each model (batch, class)."""
        models = len(self.models)
        return scores.reshape(len(scores), models, scores.shape[1] // models).unbind(1)

    def rehearse(self) -> None:
        """Predict a batch of each alone and side by side, and take its gradients, which need about a step's memory.

        Raises NotAlike where a model beside others does not predict as it does alone, and torch.OutOfMemoryError.
        """
        inputs = [next(training.batches(training.epoch + 1))[0] for training in self.trainings]
        for model in (self.wide, *self.models):
            model.eval()
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # which rounds more than what is looked for
            try:
                beside = self.scores(inputs)
                torch.cat([score.flatten() for pair in beside for score in pair]).sum().backward()
                with torch.no_grad():
                    expected = [model(x) for model, x in zip(self.models, inputs, strict=True)]
            except (torch.OutOfMemoryError, torch.AcceleratorError):
                raise
            except RuntimeError as error:  # the family counts its channels
                raise NotAlike("a model of this family cannot be computed beside others") from error
        for model, ours, theirs in zip(self.models, beside, expected, strict=True):
            model.zero_grad()
            if not all(map(is_close, ours, theirs)):
                raise NotAlike("a model of this family predicts otherwise beside others")


def side_by_side(models: Sequence[nn.Module]) -> nn.Module:
    """A model whose every layer is those of the `models`, and whose running statistics are theirs: they share memory.

    Its weights are left to whoever calls it. Raises NotAlike where the models differ, or have layers with values, or
    with draws, that are not convolutions, BatchNorms and plain dropout.
    """
    wide, count = copy.deepcopy(models[0]), len(models)
    names = [name for name, _ in wide.named_modules()]
    if any([name for name, _ in model.named_modules()] != names for model in models):
        raise NotAlike("models of several architectures")
    for name in names:
        module, own = wide.get_submodule(name), [model.get_submodule(name) for model in models]
        values = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if isinstance(module, nn.Conv2d):
            module.in_channels, module.out_channels = count * module.in_channels, count * module.out_channels
            module.groups *= count
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features *= count
            share_statistics(module, own)
        elif isinstance(module, nn.Dropout) and module.p:
            parent, _, attribute = name.rpartition(".")
            setattr(wide.get_submodule(parent), attribute, Dropouts(module.p, count))
        elif values or (isinstance(module, RANDOM) and not isinstance(module, nn.Dropout)):
            raise NotAlike(f"{type(module).__name__} cannot be computed for several models at once")
    return wide


def share_statistics(wide: nn.BatchNorm2d, models: Sequence[nn.Module]) -> None:
    """Let the running statistics of each of `models` be a part of those of `wide`."""
    for name in ("running_mean", "running_var"):
        together = torch.cat([getattr(model, name) for model in models])
        setattr(wide, name, together)
        for model, part in zip(models, together.chunk(len(models)), strict=True):
            setattr(model, name, part)


def is_close(one: Tensor, other: Tensor) -> bool:
    """Whether scores differ by no more than rounding explains; what is not finite tells nothing."""
    if not other.numel() or not other.isfinite().all():
        return True
    return bool((one - other).abs().max() <= CLOSE * other.abs().max())


def ended(training: Fit, at: float) -> Epoch | Diverged:
    """What became of the epoch, whose last step ended at that time."""
    try:
        return training.end(at)
    except Diverged as error:
        return error
