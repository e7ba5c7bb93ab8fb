"""Python imports this when a process starts whose path has this folder: there, too, one module is the mutant's.

What a test starts is under test as well: processes of Ray, the command line, the decoder's process.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

MODULE, FILE, SOURCE = "MUTANT_MODULE", "MUTANT_FILE", "MUTANT_SOURCE"


class Mutated(MetaPathFinder, Loader):
    """Imports one module from a mutant's source instead of its file."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, origin=os.environ[FILE]) if fullname == os.environ[MODULE] else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = os.environ[FILE]
        exec(compile(os.environ[SOURCE], os.environ[FILE], "exec"), module.__dict__)


def mutate(module: str, file: Path, source: str) -> None:
    """Import `module` from `source` in this process, and in those that it starts."""
    path = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ |= {MODULE: module, FILE: str(file.resolve()), SOURCE: source, "PYTHONPATH": os.pathsep.join(path)}
    sys.meta_path.insert(0, Mutated())


if MODULE in os.environ:
    sys.meta_path.insert(0, Mutated())
