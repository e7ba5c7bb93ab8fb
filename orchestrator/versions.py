"""What computes a result: packages, and our own source."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from orchestrator.arithmetic import OF_THE_CPU, arithmetic
from orchestrator.code import as_written, whole
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
FILES = "files"  # the digest of the source files as they are, beside the versions of work in progress
# Of these depend the numbers that features, trainings and the search produce.
NUMBERS = ("torch", "torchaudio", "soundfile", "soxr", "optuna", "numpy", "arithmetic", "source")
# Of these, beside those, exported files and what they predict.
EXPORTERS = ("tensorflow", "onnx2tf", "onnx", "onnxruntime", "ai-edge-litert")


@cache
def versions() -> dict[str, str]:
    """What computed this: Python, machine, packages, and a digest of this project's code."""
    return {**installed(), "source": whole()}


@cache
def installed() -> dict[str, str]:
    """Python, machine and packages of this process."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    machine = {"machine": platform.machine(), "processor": processor(), "system": platform.system()}
    return {"python": sys.version.split()[0], **machine, "arithmetic": arithmetic(), **packages}


def begun_with() -> dict[str, str]:
    """`versions`, and the digest by which another process sees without parsing that its code is the same."""
    return {**versions(), FILES: as_written()}


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def numbers() -> dict[str, str]:
    """What of `versions` results depend on, the code apart: it is in every key."""
    known = installed()
    return {name: known[name] for name in ("machine", *NUMBERS) if name != "source"}


def exporters() -> dict[str, str]:
    """What of `versions` exported files depend on, beside `numbers`."""
    return {name: installed()[name] for name in EXPORTERS}


def unlike(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two `versions` so that numbers may, too: the CPU is not part of it in common arithmetic."""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    is_common = "arithmetic" not in names and now.get("arithmetic", OF_THE_CPU) != OF_THE_CPU
    return [name for name in names if not (is_common and name == "processor")]


def require_same(then: dict[str, str], what: str) -> None:
    """Raises UserError where numbers made `then`, perhaps on another node, and numbers made now may not be mixed."""
    has_same_files = then.get(FILES) == as_written()
    now = installed() if has_same_files else versions()
    for name in NUMBERS:
        if name in now and then.get(name) != now[name]:
            label = "code" if name == "source" else name
            raise UserError(
                f"{what} was begun with {label} {then.get(name)}, here it is {now[name]}: install the same version on "
                f"every node"
            )
