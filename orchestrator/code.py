"""A digest of the code that determines a result, for the result's key.

It starts at the functions that compute the result and follows the names that they use, through imports, to every
definition in this project and in a user's own packages. Comments, docstrings, formatting, the text of annotations and
the file that a definition is in do not count; a name in an annotation is followed. The libraries that compute count by
their versions (versions.py).
"""

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = ("features", "models", "orchestrator")
CARRIERS = (
    "features.caching",
    "features.maps",
    "orchestrator.cluster",
    "orchestrator.config",
    "orchestrator.errors",
    "orchestrator.monitor",
    "orchestrator.storage",
    "orchestrator.versions",
)
"""Packages and modules that store, schedule, show or check results. They do not determine a result, so their code
counts only where a stage names it as a root. The settings that they read are in the keys themselves."""

Read = Callable[[str], str | None]
"""A module's name -> its source; None where it belongs to a library."""


def code_of(*roots: str | Callable[..., object]) -> str:
    """Digest, 16 hex digits, of everything that `roots` use: functions and classes, or their names "module:Name"."""
    return digest(tuple(sorted(root if isinstance(root, str) else name_of(root) for root in roots)))


def name_of(root: Callable[..., object]) -> str:
    """A function or class as "module:Name"."""
    return f"{root.__module__}:{root.__qualname__}"


@cache
def digest(roots: tuple[str, ...]) -> str:
    """`code_of` for names, computed once in a process."""
    packages = {*PROJECT, *(root.partition(".")[0].partition(":")[0] for root in roots)}
    return digest_with(roots, lambda module: source_of(module) if module.split(".")[0] in packages else None)


def digest_with(roots: tuple[str, ...], read: Read) -> str:
    """The digest; `read` supplies the source of each module."""
    texts = {definition.text for definition in reached(roots, read)}
    return hashlib.blake2b("\0".join(sorted(texts)).encode(), digest_size=8).hexdigest()


@cache
def whole() -> str:
    """Digest of all of this project's code, which every node of a cluster must have alike."""
    texts = [ast.dump(Bare().visit(ast.parse(file.read_bytes()))) for file in sources()]
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()


@cache
def as_written() -> str:
    """Digest of this project's files, comments and all: where it is the same, `whole` is, and it costs no parsing."""
    texts = [file.read_bytes() for file in sources()]
    return hashlib.blake2b(b"\0".join(texts), digest_size=8).hexdigest()


def sources() -> list[Path]:
    """Every source file of this project, by path."""
    root = Path(__file__).parents[1]
    return sorted(file for package in PROJECT for file in (root / package).rglob("*.py"))


@cache
def source_of(module: str) -> str | None:
    """The source text of a module, found without importing it; None where it has none."""
    found = importlib.util.find_spec(module.split(".")[0])
    if found and found.submodule_search_locations is None and found.origin and found.origin.endswith(".py"):
        return Path(found.origin).read_text(encoding="utf-8") if module == found.name else None
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place).joinpath(*module.split(".")[1:])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file.read_text(encoding="utf-8")
    return None


@dataclass(frozen=True)
class Definition:
    """One function, class, constant or bare statement of a module."""

    text: str  # what counts of it
    uses: frozenset[tuple[str, str]]  # (module, name) of the definitions that it uses


def reached(roots: tuple[str, ...], read: Read) -> list[Definition]:
    """Every definition that `roots` use, directly or not."""
    modules: dict[str, Module | None] = {}

    def module(name: str) -> "Module | None":
        if name not in modules:
            text = read(name)
            modules[name] = None if text is None else parsed(name, text)
        return modules[name]

    left = [(name, place) for place, _, name in (root.partition(":") for root in roots)]
    seen: set[tuple[str, str]] = set()
    found: list[Definition] = []
    while left:
        name, place = left.pop()
        home = module(place)
        if (name, place) in seen or home is None:
            continue
        seen.add((name, place))
        if name in home.imports:  # it is only passed on
            inner, original = home.imports[name]
            left.append((original, inner))
            continue
        for definition in home.definitions(name):
            found.append(definition)
            for used_place, used in definition.uses:
                inner = module(f"{used_place}.{used}")
                if not used_place.startswith(CARRIERS) and inner is None:
                    left.append((used, used_place))
    return found


@cache
def parsed(name: str, text: str) -> "Module":
    """A module, parsed once in a process."""
    return Module(name, text)


class Module:
    """A module's definitions by name, and what its names are imported from."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.nodes: dict[str, list[ast.stmt]] = {}
        self.bare: list[ast.stmt] = []
        self.known: dict[ast.stmt, Definition] = {}
        tree = ast.parse(text)
        self.imports = dict(imports_in(tree.body, name))
        for node in tree.body:
            for defined in names_defined_by(node):
                self.nodes.setdefault(defined, []).append(node)
            if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
                self.bare.append(node)

    def definitions(self, name: str) -> list[Definition]:
        """Those of `name`, and what the module does whenever it is imported. A table counts by its rows in use."""
        return [self.definition(node) for node in [*self.nodes.get(name, ()), *self.bare] if not is_table(node)]

    def definition(self, node: ast.stmt) -> Definition:
        if node not in self.known:
            self.known[node] = self.analyse(node)
        return self.known[node]

    def analyse(self, node: ast.stmt) -> Definition:
        """Which names of which modules, and which libraries, one statement of the module uses."""
        imports = self.imports | dict(imports_in(list(ast.walk(node)), self.name))
        uses: set[tuple[str, str]] = set()
        libraries: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imports:
                module, name = imports[part.value.id]
                uses.add((f"{module}.{name}" if name else module, part.attr))
            if isinstance(part, ast.Name) and part.id in imports:
                uses.add(imports[part.id])
                if imports[part.id][0].split(".")[0] not in PROJECT:
                    libraries.add(f"{part.id} is {'.'.join(imports[part.id])}")
            elif isinstance(part, ast.Name) and part.id in self.nodes:
                uses.add((self.name, part.id))
        shown = ast.dump(Bare().visit(ast.Module([node], [])))  # changes it, which nobody reads again
        return Definition("\n".join([shown, *sorted(libraries)]), frozenset(uses))


def names_defined_by(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def imports_in(nodes: list[ast.stmt] | list[ast.AST], module: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Local name -> (module, name in it); the name is empty where it is the module itself."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or alias.name.split(".")[0],
                    (alias.name if alias.asname else alias.name.split(".")[0], ""),
                )
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield alias.asname or alias.name, (source, alias.name)


def is_table(node: ast.stmt) -> bool:
    """Whether a statement defines a table, whose rows count where they are used."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Table"


class Bare(ast.NodeTransformer):
    """Removes docstrings, annotations and imports; what is imported counts where it is used."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.Constant(None)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node
