"""The same arithmetic on every x86-64 CPU with AVX2, so that a run gives the same bits on all of them.

Left alone, numerical libraries choose instructions by a CPU's width and maker: sums come in another order, the last
bits differ, and after some epochs a model's accuracy by some points (docs/lab-notes.md). Libraries read these variables
when they are imported, so they are set before. One that is set already stays as it is: whoever wants AVX-512 asks for
it.
"""

import hashlib
import os
import platform
from pathlib import Path

OF_THE_CPU = "of the CPU"
CPU = Path("/proc/cpuinfo")
NEEDED = {"avx2", "fma"}  # instructions that an older CPU lacks: told to use them, a library ends the process
COMMON = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # torch's products of matrices, FFT, exp and log: by the CPU's maker otherwise
    "OPENBLAS_CORETYPE": "Haswell",  # products of matrices in NumPy and SciPy
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}


def use_common() -> None:
    """Set what is not set, for this process and those that it starts. Call it before NumPy or torch is imported."""
    # NumPy does not start with instructions both enabled and disabled.
    if platform.machine() == "x86_64" and instructions() >= NEEDED and "NPY_ENABLE_CPU_FEATURES" not in os.environ:
        for name, value in COMMON.items():
            os.environ.setdefault(name, value)


def instructions() -> set[str]:
    """The names of this CPU's, as Linux has them; none where that is not known."""
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def chosen() -> dict[str, str]:
    """This process's variables, for processes that another machine starts."""
    return {name: os.environ[name] for name in COMMON if name in os.environ}


def arithmetic() -> str:
    """ "common" and which one that is, or "of the CPU": then another CPU may round otherwise."""
    if chosen() != COMMON:
        return OF_THE_CPU
    return f"common {hashlib.blake2b(repr(sorted(COMMON.items())).encode(), digest_size=4).hexdigest()}"
