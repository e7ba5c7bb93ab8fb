"""What enters a model: the deltas that the front end defines, on arrays that processes share."""

import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from features.frontend import with_deltas
from features.settings import CONTEXT
from models.batches import Channels

INPUT = Channels(with_deltas, CONTEXT)


def tensor(array: NDArray[Any]) -> Tensor:
    """A tensor on the array's own memory. Shared arrays are read-only, and nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
