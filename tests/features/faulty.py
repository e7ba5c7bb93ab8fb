"""A decoder with the faults that a file asks for, which `features.apart` calls in its process."""

import os
import signal
from pathlib import Path

import numpy as np

from features.decoding import Decoded, decode

SILENCE = Decoded(np.zeros((4, 2), np.float32), 8000)


def faulty(data: bytes, seconds: float | None) -> Decoded:
    kind, rest = data[:4], data[4:]
    if kind == b"SEGV":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == b"KILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == b"EXIT":
        os._exit(3)
    while kind == b"HANG":
        pass
    if kind == b"DISK":
        raise OSError(28, "in other words")
    if kind == b"ONCE" and not Path(rest.decode()).exists():
        Path(rest.decode()).touch()
        os.abort()
    return SILENCE if kind in (b"GOOD", b"ONCE") else decode(data, seconds)
