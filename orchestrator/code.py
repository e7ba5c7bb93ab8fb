"""A digest of the code that determines a result, for the result's key.

From the functions that compute the result it follows every name that they use, through imports, in this project (but
for CARRIERS) and in the packages that the settings name. Comments, docstrings, formatting and the text of annotations
do not count, nor does, in this project, the file that a definition is in; a name in an annotation is followed where it
is not a text. The libraries that compute count by their versions (versions.py).
"""

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = ("features", "models", "orchestrator")
PACKAGE = "__init__.py"
CARRIERS = (
    "features.caching",
    "features.maps",
    "orchestrator.cluster",
    "orchestrator.code",
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
    """Digest, 16 hex digits, of all code that `roots` use. A root is a function, a class or a name "module:Name"."""
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
    """Digest of this project's files, comments and all. Where two processes have the same, `whole` is the same, too."""
    texts = [file.read_bytes() for file in sources()]
    return hashlib.blake2b(b"\0".join(texts), digest_size=8).hexdigest()


def sources() -> list[Path]:
    """Every source file of this project, by path."""
    root = Path(__file__).parents[1]
    return sorted(file for package in PROJECT for file in (root / package).rglob("*.py"))


@cache
def source_of(module: str) -> str | None:
    """The source text of a module, found without importing it; None where it has none."""
    file = file_of(module)
    return None if file is None else file.read_text(encoding="utf-8")


@cache
def file_of(module: str) -> Path | None:
    """A module's source file, found without importing it."""
    found = importlib.util.find_spec(module.split(".")[0])
    if found and found.submodule_search_locations is None and found.origin and found.origin.endswith(".py"):
        return Path(found.origin) if module == found.name else None
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place).joinpath(*module.split(".")[1:])
        for file in (path.with_suffix(".py"), path / PACKAGE):
            if file.is_file():
                return file
    return None


def package_of(module: str) -> str:
    """The package that a module's relative imports start from: itself, where it is one."""
    file = file_of(module)
    return module if file is not None and file.name == PACKAGE else module.rpartition(".")[0]


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
        if name in home.imports:
            inner, original = home.imports[name]
            left.append((original, inner))
            if name not in home.nodes:  # it is only passed on
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
        self.name, self.package = name, package_of(name)
        self.nodes: dict[str, list[ast.stmt]] = {}
        self.bare: list[ast.stmt] = []
        self.known: dict[ast.stmt, Definition] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        for node in ast.parse(text).body:
            within = list(executed(node))
            self.imports |= dict(imports_in(within, self.package))
            for defined in [name for part in within for name in names_defined_by(part)]:
                self.nodes.setdefault(defined, []).append(node)
            if is_bare(node):
                self.bare.append(node)

    def definitions(self, name: str) -> list[Definition]:
        """Those of `name`, and the module's bare statements. Without tables: keys name the rows that they use."""
        return [self.definition(node) for node in [*self.nodes.get(name, ()), *self.bare] if not is_table(node)]

    def definition(self, node: ast.stmt) -> Definition:
        if node not in self.known:
            self.known[node] = self.analyse(node)
        return self.known[node]

    def analyse(self, node: ast.stmt) -> Definition:
        """Which names of which modules, and which libraries, one statement of the module uses."""
        imports = self.imports | dict(imports_in(ast.walk(node), self.package))
        uses: set[tuple[str, str]] = set()
        libraries: set[str] = set()
        for part in ast.walk(node):
            base, *further = dotted(part.value) if isinstance(part, ast.Attribute) else [""]
            if isinstance(part, ast.Attribute) and base in imports:
                uses.add((".".join(name for name in (*imports[base], *further) if name), part.attr))
            if isinstance(part, ast.Name) and part.id in imports:
                uses.add(imports[part.id])
                if imports[part.id][0].split(".")[0] not in PROJECT:
                    libraries.add(f"{part.id} is {'.'.join(imports[part.id])}")
            elif isinstance(part, ast.Name) and part.id in self.nodes:
                uses.add((self.name, part.id))
        shown = ast.dump(Bare().visit(ast.Module([node], [])))  # changes it, which nobody reads again
        return Definition("\n".join([shown, *sorted(libraries)]), frozenset(uses))


def executed(node: ast.stmt) -> Iterator[ast.stmt]:
    """A statement of a module and those within it that are executed with it, such as the parts of `if` and `try`."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            for part in [child] if isinstance(child, ast.stmt) else ast.iter_child_nodes(child):
                if isinstance(part, ast.stmt):
                    yield from executed(part)


def is_bare(node: ast.stmt) -> bool:
    """Whether a statement of a module does something besides defining or importing a name."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    return not (names_defined_by(node) or isinstance(node, ast.Import | ast.ImportFrom | ast.TypeAlias))


def dotted(node: ast.expr) -> list[str]:
    """The names of `a.b.c`; [""] where it is nothing of that kind."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]


def names_defined_by(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def imports_in(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Local name -> (module, name in it), the name empty after `import module`. Relative to the module's `package`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or alias.name.split(".")[0],
                    (alias.name if alias.asname else alias.name.split(".")[0], ""),
                )
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
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
