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
    "ray",
    "tensorflow",
    "onnx2tf",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "optuna",
    "numpy",
)
NUMBERS = ("machine", "torch", "numpy", "source")  # of these depend the numbers that a training produces


def versions() -> dict[str, str]:
    """What computed this: Python, machine, packages, and a digest of the code that trainings and features run."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    system = {"python": sys.version.split()[0], "machine": platform.machine(), "system": platform.system()}
    return {**system, **packages, "source": source()}


@cache
def source() -> str:
    """Digest of models/ and features/ as they run: what decides about numbers. Comments and docstrings do not."""
    root = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for package in ("models", "features"):
        for file in sorted((root / package).rglob("*.py")):
            tree = WithoutDocstrings().visit(ast.parse(file.read_bytes()))
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + ast.dump(tree).encode() + b"\0")
    return digest.hexdigest()


class WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def require_same(then: dict[str, str], what: str) -> None:
    """Raises UserError where numbers made `then` and numbers made now may not stand side by side."""
    now = versions()
    for name in NUMBERS:
        if then.get(name) != now[name]:
            label = "code in models/ and features/" if name == "source" else name
            raise UserError(
                f"{what} was made with {label} {then.get(name)}, here it is {now[name]}: the run would mix both; go on "
                f"with the former, or start afresh with another --storage"
            )
