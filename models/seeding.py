"""Random numbers by purpose: what is drawn for one thing never depends on what was drawn for another."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(*purpose: object) -> int:
    """A 63-bit seed for a purpose such as (seed, "mixup", epoch); the same on every machine."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


@contextmanager
def seeded(*purpose: object) -> Iterator[None]:
    """Within the block torch draws from `derive(*purpose)`; afterwards the caller's generators are as before."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive(*purpose))
        yield
