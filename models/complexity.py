"""What a model costs: parameters, bytes by the challenge's rule, multiply-accumulates."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models.specs import BYTES_PER_PARAMETER

FLOAT = 4  # bytes of a float32, which models compute in
IN_PLACE = (torch.ops.aten.relu.default,)


@dataclass(frozen=True)
class Complexity:
    """A student's cost: storage in parameters and bytes, computation and activations of one clip."""

    parameters: int  # everything stored: weights, biases, BatchNorm statistics
    non_zero: int
    bytes: int  # non-zero parameters in fp16, the challenge's rule
    macs: int  # of one clip
    peak_activations: int  # values alive at once between layers, input and skip connections included, of one clip


def stored_parameters(model: nn.Module) -> list[torch.Tensor]:
    """Parameters and BatchNorm statistics, without its counters: what Keras counts and a file holds."""
    return [value for value in model.state_dict().values() if value.is_floating_point()]


def measure(model: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Measure `model` as it is (fold it first to count what is exported) on one (channel, mel, frame) input.

    A value counts as non-zero if it is so in fp16.
    """
    values = stored_parameters(model)
    non_zero = sum(int(value.half().count_nonzero()) for value in values)
    training = model.training
    device = values[0].device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *input_shape, device=device))
    model.train(training)
    return Complexity(
        parameters=sum(value.numel() for value in values),
        non_zero=non_zero,
        bytes=non_zero * BYTES_PER_PARAMETER,
        macs=counter.get_total_flops() // 2,
        peak_activations=peak_activations(model, input_shape),
    )


class _Liveness(fx.Interpreter):
    """Runs a traced model and keeps account of the values that a later operation still needs."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.peak = 0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and n.target not in IN_PLACE:
            # `env` has what is alive, the operation's own inputs among it; views share their storage.
            values = [value for node, value in self.env.items() if node.op != "get_attr"] + [result]
            tensors = [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
            storages = [value.untyped_storage() for value in tensors]
            alive = {storage.data_ptr(): storage.nbytes() // FLOAT for storage in storages}
            self.peak = max(self.peak, sum(alive.values()))
        return result


@torch.no_grad()
def peak_activations(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Values alive at once while one clip runs, if a ReLU writes where it reads and nothing else does."""
    from torch.fx.experimental.proxy_tensor import make_fx  # imports what takes a second

    training = model.training
    x = torch.zeros(1, *input_shape, device=next(model.parameters()).device)
    run = _Liveness(make_fx(model.eval())(x))
    run.run(x)
    model.train(training)
    return run.peak
