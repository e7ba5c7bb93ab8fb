"""Averages of weights and of predictions, by hand and by numpy."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.averaging import average, ensemble, greedy, label_batch, reestimate_norms
from models.mobnet import Mobnet, MobnetSpec
from models.prediction import Predictions


def state(weight: Sequence[float], steps: int = 0) -> dict[str, Tensor]:
    return {"weight": torch.tensor(weight), "steps": torch.tensor(steps)}


def test_average_by_hand():
    mean = average([state([1.0, 2.0], 7), state([3.0, 6.0], 9)], [1.0, 3.0])
    assert mean["weight"].tolist() == [2.5, 5.0]
    assert mean["steps"].item() == 9 and mean["steps"].dtype == torch.int64
    assert mean["weight"].dtype == torch.float32


def test_only_the_ratio_of_weights_matters():
    states = [state([1.0]), state([2.0]), state([6.0])]
    assert average(states, [1, 1, 1])["weight"].item() == pytest.approx(3.0)
    assert average(states, [8, 8, 8])["weight"].item() == average(states, [1, 1, 1])["weight"].item()
    assert average(states, [0, 0, 5])["weight"].item() == 6.0


def test_sums_are_taken_in_double_precision():
    states = [state([2.0**25]), state([1.0]), state([1.0]), state([-(2.0**25)])]
    assert average(states, [1, 1, 1, 1])["weight"].item() == 0.5


def test_the_given_states_are_not_changed():
    states = [state([1.0]), state([3.0])]
    average(states, [1, 1])["weight"] += 5
    assert [one["weight"].item() for one in states] == [1.0, 3.0]


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5),
    weights=st.lists(st.floats(0.01, 10), min_size=5, max_size=5),
)
def test_an_average_is_numpys_and_lies_between_its_parts(values, weights):
    mean = average([state([value]) for value in values], weights[: len(values)])["weight"].item()
    assert mean == pytest.approx(np.average(values, weights=weights[: len(values)]), rel=1e-6, abs=1e-6)
    assert min(values) - 1e-4 <= mean <= max(values) + 1e-4


@pytest.mark.parametrize(("weights", "count"), [([1.0], 2), ([], 0), ([0.0, 0.0], 2), ([2.0, -1.0], 2)])
def test_impossible_weights_are_refused(weights, count):
    with pytest.raises(AssertionError):
        average([state([1.0])] * count, weights)


def test_averages_of_students_load_into_a_student():
    def student(seed: int) -> Mobnet:
        torch.manual_seed(seed)
        return Mobnet(MobnetSpec(stem=4, rows=(4,), tail=4, shared=4), channels=3, scenes=3, groups=2)

    one, other, mean = student(1), student(2), student(3)
    mean.load_state_dict(average([one.state_dict(), other.state_dict()], [1, 1]))
    for first, second, between in zip(one.parameters(), other.parameters(), mean.parameters(), strict=True):
        assert torch.allclose(between, (first + second) / 2)


# norms


def test_reestimated_statistics_are_numpys_over_one_pass():
    norm = nn.BatchNorm2d(3, momentum=0.25)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.fill_(100.0)  # of another network
    norm.running_var.fill_(1e6)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.fill_(1000)
    inputs = torch.randn(5, 8, 3, 4, 6) * torch.tensor([1.0, 2.0, 5.0])[:, None, None] + 3
    reestimate_norms(nn.Sequential(norm), inputs, seed=0)
    values = inputs.numpy()
    assert np.allclose(norm.running_mean.numpy(), values.mean((0, 1, 3, 4)), atol=1e-5)
    assert np.allclose(norm.running_var.numpy(), values.var((1, 3, 4), ddof=1).mean(0), rtol=1e-5)
    assert norm.momentum == 0.25
    assert not norm.training


def test_reestimation_sees_the_network_as_training_did():
    """The second norm's statistics are of what the first makes of each batch; dropout is active; weights stay."""
    torch.manual_seed(0)
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    model = nn.Sequential(first, nn.Dropout(0.5), second)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([2.0, 3.0]))
        first.bias.copy_(torch.tensor([1.0, -1.0]))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    reestimate_norms(model, [7 + 4 * torch.randn(64, 2, 8, 8) for _ in range(4)], seed=0)
    assert second.running_mean is not None and second.running_var is not None
    # Normalised, the first's outputs have mean b and variance w^2; dropout at 1/2 keeps the mean, and makes
    # the variance 2 (w^2 + b^2) - b^2.
    assert second.running_mean.tolist() == pytest.approx([1.0, -1.0], abs=0.1)
    assert second.running_var.tolist() == pytest.approx([2 * (4 + 1) - 1, 2 * (9 + 1) - 1], rel=0.05)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())


# ensembles


def predictions(scene: list[list[float]], group: list[list[float]] | None = None) -> Predictions:
    return Predictions(torch.tensor(scene), torch.tensor(group) if group else torch.zeros(len(scene), 0))


def test_ensembles_by_hand():
    members = [predictions([[0.8, 0.2]], [[0.5, 0.5]]), predictions([[0.4, 0.6]], [[0.9, 0.1]])]
    arithmetic, geometric = ensemble(members, "probabilities"), ensemble(members, "logits")
    assert arithmetic.scene[0].tolist() == pytest.approx([0.6, 0.4])
    assert arithmetic.group[0].tolist() == pytest.approx([0.7, 0.3])
    # Odds of 4 and 2/3 have the geometric mean sqrt(8/3); of 1 and 9, 3.
    odds = (8 / 3) ** 0.5
    assert geometric.scene[0].tolist() == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])
    assert geometric.group[0].tolist() == pytest.approx([0.75, 0.25])


@settings(deadline=None, max_examples=50)
@given(
    logits=st.lists(
        st.lists(st.lists(st.floats(-6, 6), min_size=4, max_size=4), min_size=2, max_size=2), min_size=1, max_size=4
    )
)
def test_ensembles_average_what_they_say(logits):
    z = torch.tensor(logits)  # (member, clip, class)
    members = [Predictions(torch.softmax(rows, 1), torch.zeros(2, 0)) for rows in z]
    assert torch.allclose(ensemble(members, "probabilities").scene, torch.softmax(z, 2).mean(0), atol=1e-6)
    assert torch.allclose(ensemble(members, "logits").scene, torch.softmax(z.mean(0), 1), atol=1e-5)
    assert ensemble(members, "logits").group.shape == (2, 0)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_certain_members_leave_a_finite_logarithm(of):
    certain = ensemble([predictions([[1.0, 0.0, 0.0]]), predictions([[1.0, 0.0, 0.0]])], of).scene
    assert certain.log().isfinite().all()
    assert certain[0, 0].item() == pytest.approx(1.0)
    contrary = ensemble([predictions([[1.0, 0.0, 0.0]]), predictions([[0.0, 1.0, 0.0]])], of).scene
    assert contrary.log().isfinite().all()
    assert contrary[0].tolist() == pytest.approx([0.5, 0.5, 0.0])


# Greedy


def test_greedy_keeps_what_lowers_the_loss():
    values = {2: 4.0, 6: 1.0, 14: -8.0, 30: 3.0}
    asked = []

    def loss(epochs):
        asked.append(list(epochs))
        return abs(sum(values[epoch] for epoch in epochs) / len(epochs))

    # |1| -> with 30: |2|, no -> with 2: |2.5|, no -> with 14: |-3.5|, no
    assert greedy([6, 30, 2, 14], loss) == [6]
    assert asked == [[6], [6, 30], [6, 2], [6, 14]]
    # |3| -> with 2: 3.5, no -> with 14: |-2.5|, yes -> with 6: |-4/3|, yes
    assert greedy([30, 2, 14, 6], loss) == [30, 14, 6]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6))
def test_greedy_is_never_worse_than_the_first(values):
    def loss(epochs):
        return abs(sum(values[epoch] for epoch in epochs) / len(epochs))

    kept = greedy(range(len(values)), loss)
    assert kept[0] == 0
    assert loss(kept) <= loss([0])


# Online labels


class Saying(nn.Module):
    """Says the same of every clip."""

    def __init__(self, scene: list[float], group: list[float]) -> None:
        super().__init__()
        self.rows = torch.tensor(scene).log(), torch.tensor(group).log()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scene, group = (row.repeat(len(x), 1) + 7 for row in self.rows)  # logits are free by a constant
        return scene, group


@pytest.mark.parametrize(
    ("of", "scene"),
    [
        # ((0.2 + 0.4) / 2 + 0.9) / 2
        ("probabilities", [0.6, 0.4]),
        # odds: (sqrt(0.2/0.8 * 0.4/0.6) * 9) ** 0.5
        ("logits", [0.65716, 0.34284]),
    ],
)
def test_every_teacher_counts_once_however_many_snapshots_it_has(of, scene):
    first = [Saying([0.2, 0.8], [1.0]), Saying([0.4, 0.6], [1.0])]
    scores, groups = label_batch([first, [Saying([0.9, 0.1], [1.0])]], of, (1.0, 1.0), torch.zeros(3, 1, 2, 2))
    torch.testing.assert_close(scores.exp(), torch.tensor([scene] * 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(groups, torch.zeros(3, 1))
    assert not scores.requires_grad
