"""Mutants of a source file: mutmut's operators, also where mutmut itself does not go, in decorated functions."""

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string


@dataclass(frozen=True)
class Mutant:
    file: Path
    line: int
    original: str
    source: str

    @property
    def diff(self) -> str:
        before, after = (text.splitlines(keepends=True) for text in (self.original, self.source))
        return "".join(difflib.unified_diff(before, after, f"a/{self.file}", f"b/{self.file}", n=2))


def mutants_of(file: Path, source: str | None = None) -> list[Mutant]:
    """All mutants of a file that compile and differ, each once, in the order of its lines."""
    original = file.read_text(encoding="utf-8") if source is None else source
    wrapper = MetadataWrapper(cst.parse_module(original))
    position = wrapper.resolve(PositionProvider)
    found: dict[str, Mutant] = {ast.dump(ast.parse(original)): Mutant(file, 0, original, original)}
    for node in nodes(wrapper.module):
        for kind, operator in mutation_operators:
            if not isinstance(node, kind):
                continue
            changed = list(operator(node))
            for replacement in changed[:1] if operator is operator_string else changed:  # not its upper and lower case
                text = wrapper.module.deep_replace(node, replacement).code  # pyright: ignore[reportAttributeAccessIssue]
                try:
                    code = ast.dump(ast.parse(text))
                except SyntaxError:
                    continue
                where = position.get(node)
                line = where.start.line if isinstance(where, CodeRange) else 0
                found.setdefault(code, Mutant(file, line, original, text))
    return sorted(list(found.values())[1:], key=lambda mutant: mutant.line)


def nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Those that compute: no annotations, decorators, imports, docstrings, nor what an assertion says."""
    yield node
    for child in node.children:
        if isinstance(child, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
            continue
        if isinstance(child, cst.Expr) and isinstance(child.value, cst.SimpleString | cst.ConcatenatedString):
            continue
        if isinstance(node, cst.Assert) and child is node.msg:
            continue
        yield from nodes(child)
