"""Imports follow the data: features and models know nothing of each other, nothing imports the orchestrator."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "models", "orchestrator", "tests", "benchmarks")
ROOMS = (
    "errors",
    "arithmetic",
    "code",
    "versions",
    "config",
    "storage",
    "training",
    "monitor",
    "cluster",
    "export",
    "stages",
    "report",
    "submission",
    "watch",
    "run",
    "finished",
    "cli",
)
"""Of the orchestrator, in the order in which data flows: each imports only those before it."""
LATE = "late "  # before the name of what a table's row imports when it is used
INPUT_AND_OUTPUT = {
    "io",
    "json",
    "mmap",
    "os",
    "pathlib",
    "pickle",
    "shelve",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
}


def imports_in(source: str, file: PurePosixPath) -> Iterator[str]:
    """The full names of modules imported anywhere in `source`, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = file.parts[: len(file.parts) - node.level] if node.level else ()
            base = ".".join((*package, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif str(file) == "models/table.py":  # imports what rows and users' settings name
            continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Entry":  # a row of a table: "module:Name"
            row = node.args[1]
            assert isinstance(row, ast.Constant), f"{file} has a row that cannot be read: {ast.unparse(node)}"
            yield LATE + str(row.value).replace(":", ".")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            name = node.args[0]
            start = name.values[0] if isinstance(name, ast.JoinedStr) else name
            assert isinstance(start, ast.Constant), f"{file} imports what cannot be read: {ast.unparse(node)}"
            yield str(start.value)


@cache
def imports() -> dict[PurePosixPath, frozenset[str]]:
    """Every source file, relative to the root, and what it imports."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    relative = {path: PurePosixPath(path.relative_to(ROOT).as_posix()) for path in files}
    return {name: frozenset(imports_in(path.read_text(encoding="utf-8"), name)) for path, name in relative.items()}


def importers(*modules: str) -> dict[str, set[str]]:
    """The files that import one of `modules` or anything inside, by file."""
    found = {str(file): {name for name in names if name.split(".")[0] in modules} for file, names in imports().items()}
    return {file: names for file, names in found.items() if names}


def outside(files: dict[str, set[str]], *places: str) -> dict[str, set[str]]:
    return {file: names for file, names in files.items() if not file.startswith(places)}


def test_imports_are_found_wherever_they_stand():
    source = "import a.b, c as d\nfrom e.f import g\nfrom . import h\nfrom ..i import j\ndef k():\n    import l\n"
    found = set(imports_in(source, PurePosixPath("package/inner/file.py")))
    assert found == {"a.b", "c", "e.f.g", "package.inner.h", "package.i.j", "l"}
    source = "import importlib\nimportlib.import_module('m.n')\nimportlib.import_module(f'o.{name}')"
    assert set(imports_in(source, PurePosixPath("x.py"))) == {"importlib", "m.n", "o."}


def test_every_package_is_read():
    for package, least in (("features", 5), ("models", 10), ("orchestrator", 10), ("tests", 5)):
        assert sum(file.parts[0] == package for file in imports()) >= least


def test_features_know_neither_models_nor_orchestrator():
    assert {file for file in importers("models", "orchestrator") if file.startswith("features/")} == set()


def test_models_are_torch_and_the_standard_library_alone():
    allowed = (sys.stdlib_module_names | {"torch", "models"}) - INPUT_AND_OUTPUT
    for file, names in imports().items():
        if file.parts[0] == "models":
            assert {name for name in names if name.removeprefix(LATE).split(".")[0] not in allowed} == set(), str(file)


def test_nothing_imports_the_orchestrator():
    assert outside(importers("orchestrator"), "orchestrator/", "tests/", "benchmarks/") == {}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_those_before_them(room):
    after = ROOMS[ROOMS.index(room) + 1 :]
    for file, names in imports().items():
        if file.parts[0] == "orchestrator" and file.parts[1].removesuffix(".py") == room:
            up = {name for name in names if name.split(".")[0] == "orchestrator" and name.split(".")[1] in after}
            assert up == set(), str(file)


def test_every_room_is_known():
    found = {file.parts[1].removesuffix(".py") for file in imports() if file.parts[0] == "orchestrator"}
    assert found == {*ROOMS, "__init__", "__main__"}


def test_rows_of_tables_lead_to_what_is_there():
    rows = {name.removeprefix(LATE) for names in imports().values() for name in names if name.startswith(LATE)}
    assert len(rows) > 10
    for row in rows:
        module, _, name = row.rpartition(".")
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}, row


def test_nothing_imports_tests_or_benchmarks():
    assert outside(importers("tests"), "tests/") == {}
    assert outside(importers("benchmarks"), "benchmarks/", "tests/") == {}


@pytest.mark.parametrize(
    ("modules", "places"),
    [
        (("ray",), ("features/on_ray.py", "orchestrator/")),
        (("tensorflow", "onnx2tf"), ("orchestrator/export/",)),
    ],
)
def test_heavy_libraries_stay_where_they_belong(modules, places):
    used = importers(*modules)
    assert outside(used, *places, "tests/", "benchmarks/") == {}
    assert used, "the library that this rule is about has gone"
