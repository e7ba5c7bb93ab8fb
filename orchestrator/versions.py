"""What computes a result: packages, and our own source."""

import importlib.metadata
import platform
import sys
from functools import cache
from pathlib import Path

from orchestrator.code import whole
from orchestrator.errors import UserError

PACKAGES = (
    "torch",
    "torchaudio",
    "soundfile",
    "soxr",
    "ray",
    "tensorflow",
    "onnx2tf",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "optuna",
    "numpy",
)
# Of these depend the numbers that features, trainings and the search produce.
NUMBERS = ("torch", "torchaudio", "soundfile", "soxr", "optuna", "numpy", "source")


@cache
def versions() -> dict[str, str]:
    """What computed this: Python, machine, packages, and a digest of this project's code."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    machine = {"machine": platform.machine(), "processor": processor(), "system": platform.system()}
    return {"python": sys.version.split()[0], **machine, **packages, "source": whole()}


def processor() -> str:
    """The CPU's name: two of one architecture may round otherwise."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def numbers() -> dict[str, str]:
    """What of `versions` results depend on, the code apart: it is in every key."""
    known = versions()
    return {name: known[name] for name in ("machine", *NUMBERS) if name != "source"}


def require_same(then: dict[str, str], what: str) -> None:
    """Raises UserError where numbers made `then`, perhaps on another node, and numbers made now may not be mixed."""
    now = versions()
    for name in NUMBERS:
        if then.get(name) != now[name]:
            label = "code" if name == "source" else name
            raise UserError(
                f"{what} was begun with {label} {then.get(name)}, here it is {now[name]}: install the same version on "
                f"every node"
            )
