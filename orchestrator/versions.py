"""What computes a result: packages, and our own source."""

import ast
import hashlib
import importlib.metadata
import platform
import sys
from functools import cache
from pathlib import Path

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
CODE = (
    "features/**/*.py",
    "models/**/*.py",
    "orchestrator/training/best.py",
    "orchestrator/training/data.py",
    "orchestrator/training/inputs.py",
    "orchestrator/training/metrics.py",
    "orchestrator/training/task.py",
    "orchestrator/stages/features.py",
    "orchestrator/stages/final_actor.py",
    "orchestrator/stages/labels.py",
    "orchestrator/stages/proposals.py",
)


def versions() -> dict[str, str]:
    """What computed this: Python, machine, packages, and a digest of the code that trainings and features run."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    machine = {"machine": platform.machine(), "processor": processor(), "system": platform.system()}
    return {"python": sys.version.split()[0], **machine, **packages, "source": source()}


def processor() -> str:
    """The CPU's name: two of one architecture may round otherwise."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@cache
def source() -> str:
    """Digest of CODE as it runs: what decides about numbers. Comments and docstrings do not."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(file for pattern in CODE for file in root.glob(pattern)):
        tree = WithoutDocstrings().visit(ast.parse(file.read_bytes()))
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + ast.dump(tree).encode() + b"\0")
    return digest.hexdigest()


class WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def require_same(then: dict[str, str], what: str, *, machines: bool = True) -> None:
    """Raises UserError where numbers made `then` and numbers made now may not stand side by side.

    `machines`: whether their architectures must be alike too, which those of a cluster's nodes need not.
    """
    now = versions()
    for name in ("machine", *NUMBERS) if machines else NUMBERS:
        if then.get(name) != now[name]:
            label = "code that trains" if name == "source" else name
            raise UserError(
                f"{what} was made with {label} {then.get(name)}, here it is {now[name]}: the run would mix both; go on "
                f"with the former, or start afresh with another --storage"
            )
