"""Steps of the optimisers against torch's own."""

from dataclasses import replace

import pytest
import torch

from models.optimisers import Sgd
from models.recipe import Recipe, SgdSettings


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 1e-4), (0.0, 0.0), (0.5, 0.1)])
def test_sgd_is_torch_s_bit_for_bit(momentum, decay):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2, 3, 3), (7,), (), (2, 5)]
    ours = {str(shape): torch.randn(shape, generator=generator).requires_grad_() for shape in shapes}
    theirs = [value.detach().clone().requires_grad_() for value in ours.values()]
    optimiser = Sgd(SgdSettings(momentum=momentum, weight_decay=decay), Recipe())
    state = optimiser.start(ours)
    reference = torch.optim.SGD(theirs, lr=1.0, momentum=momentum, weight_decay=decay)
    for rate in (0.1, 0.05, 0.3):
        for value, other in zip(ours.values(), theirs, strict=True):
            value.grad = torch.randn(value.shape, generator=generator)
            other.grad = value.grad.clone()
        reference.param_groups[0]["lr"] = rate
        reference.step()
        optimiser.step(ours, state, rate)
        for value, other in zip(ours.values(), theirs, strict=True):
            assert torch.equal(value, other)
    if momentum:
        momenta = [reference.state[value]["momentum_buffer"] for value in theirs]
        assert all(torch.equal(state[name], other) for name, other in zip(ours, momenta, strict=True))


def test_the_rate_is_the_recipe_s_schedule():
    recipe = replace(Recipe(), cycle_ends=(2, 6), learning_rate=0.1, final_learning_rate=0.001)
    optimiser = Sgd(SgdSettings(), recipe)
    assert optimiser.rate(0.0) == pytest.approx(0.1) and optimiser.rate(2.0) == pytest.approx(0.1)
    assert optimiser.rate(4.0) == pytest.approx((0.1 + 0.001) / 2) and optimiser.rate(6.0) == pytest.approx(0.001)


def test_a_parameter_without_a_gradient_is_an_error():
    value = torch.zeros(3, requires_grad=True)
    optimiser = Sgd(SgdSettings(), Recipe())
    with pytest.raises(AssertionError):
        optimiser.step({"x": value}, optimiser.start({"x": value}), 0.1)
