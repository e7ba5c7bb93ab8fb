"""Averages over snapshots: of what they predict (PAPER 2.3) and of their weights (PAPER 2.6)."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from models.heads import Logits
from models.prediction import Predictions
from models.seeding import seeded


def average(states: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Weighted mean of state dicts; weights are normalised to sum 1. Counters (integers) are the last state's."""
    assert len(states) == len(weights) > 0 and min(weights) >= 0 and sum(weights) > 0
    shares = [weight / sum(weights) for weight in weights]
    return {
        name: sum((share * state[name].double() for share, state in zip(shares, states, strict=True))).to(last.dtype)  # type: ignore[union-attr]
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def greedy(order: Sequence[int], loss: Callable[[Sequence[int]], float]) -> list[int]:
    """Which of the snapshots in `order`, the best one first, to average: each is kept only if it lowers `loss`.

    `loss` evaluates the average of some snapshots (the greedy soup of Wortsman et al. 2022).
    """
    kept, lowest = list(order[:1]), loss(order[:1])
    for snapshot in order[1:]:
        if (candidate := loss([*kept, snapshot])) < lowest:
            kept, lowest = [*kept, snapshot], candidate
    return kept


@torch.no_grad()
def reestimate_norms(model: nn.Module, inputs: Iterable[Tensor], *, seed: int) -> None:
    """Replace every BatchNorm's running statistics by their plain mean over `inputs`, in place.

    An average of weights is a network none of whose statistics were ever observed (Izmailov et al. 2018).
    Dropout is active while the statistics are taken, as it was in training. Leaves the model in eval mode.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    model.train()
    with seeded(seed, "norms"):
        for x in inputs:
            model(x)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    model.eval()


@torch.no_grad()
def label_batch(
    teachers: Sequence[Sequence[nn.Module]], of: str, temperatures: tuple[float, float], x: Tensor
) -> Logits:
    """Log-scores of a batch by the ensemble of `teachers`, each the ensemble of its snapshots, all in eval mode.

    They are divided by the `temperatures` of the scene and of the group classifier.
    """

    def probabilities(model: nn.Module) -> Predictions:
        scene, group = model(x)
        return Predictions(scene.softmax(1), group.softmax(1))

    together = ensemble([ensemble([probabilities(model) for model in snapshots], of) for snapshots in teachers], of)
    return together.scene.log() / temperatures[0], together.group.log() / temperatures[1]


def ensemble(members: Sequence[Predictions], of: str) -> Predictions:
    """Average of several models' predictions, as "probabilities" or as "logits" (a geometric mean, renormalised).

    No probability of the result is exactly zero, so its logarithm can serve as a logit.
    """

    def mean(rows: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(rows)).clamp_min(torch.finfo(torch.float32).tiny)
        return stacked.mean(0) if of == "probabilities" else torch.softmax(stacked.log().mean(0), dim=1)

    return Predictions(mean([member.scene for member in members]), mean([member.group for member in members]))
