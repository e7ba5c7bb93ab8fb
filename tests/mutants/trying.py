"""One mutant against the tests nearest to it, in processes of its own: no file is changed."""

import ast
import hashlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

from tests.mutants.drawing import Mutant
from tests.mutants.everywhere.sitecustomize import mutate

OURS = ("features", "models", "orchestrator", "tests", "benchmarks")
FAR = ("tests/integration", "tests/deploy", "tests/mutants")
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"),
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),  # by load_libraries
)
KILLED, SURVIVED, TIMED_OUT, NO_TEST = "killed", "survived", "timed out", "no test"
NOTHING_COLLECTED = 5  # pytest's exit code


def module_of(file: Path) -> str:
    return ".".join(file.with_suffix("").parts)


def nearest_tests(file: Path) -> list[Path]:
    """Test files that import the module, the one that mirrors it first; from other folders only where it has none.

    A row of a table is imported by its name when it is used: where no test imports a module, its room's tests do.
    """
    mirror = Path("tests", *file.parent.parts, f"test_{file.name}")
    room = [test for test in test_files() if test.is_relative_to(mirror.parent)]
    found = [test for test in test_files() if test == mirror or module_of(file) in imported(test)]
    near = [test for test in found if test in room]
    return sorted(near or found or room, key=lambda test: (test != mirror, test))


@cache
def test_files() -> list[Path]:
    return sorted(test for test in Path("tests").rglob("test_*.py") if not str(test).startswith(FAR))


@cache
def imported(file: Path) -> frozenset[str]:
    """Modules that a file names in its imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def load_libraries(tests: Sequence[Path]) -> None:
    """Import here what the tests need and is not ours, once for all processes that are forked."""
    for name in sorted({"torch", "hypothesis", "pytest"} | {name for test in tests for name in imported(test)}):
        if name.partition(".")[0] not in OURS:
            with suppress(ImportError, AttributeError):
                import_module(name)


def key_of(mutant: Mutant, tests: Sequence[Path]) -> str:
    """Of the mutant and all that decides whether it is killed, so far as it is written in these files."""
    digest = hashlib.blake2b(f"{mutant.file}\0{mutant.source}".encode(), digest_size=12)
    for test in tests:
        digest.update(test.read_bytes())
    return digest.hexdigest()


class Trial:
    """A process that runs `tests`, with a mutant or without one."""

    def __init__(self, tests: Sequence[Path], mutant: Mutant | None, limit: float) -> None:
        self.mutant, self.tests, self.limit, self.started = mutant, tests, limit, time.monotonic()
        self.process = os.fork()
        if self.process == 0:
            os._exit(run(tests, mutant))

    def outcome(self) -> str | None:
        """None while it runs."""
        process, status = os.waitpid(self.process, os.WNOHANG)
        if process == 0 and self.seconds < self.limit:
            return None
        with suppress(ProcessLookupError):  # what it has started too
            os.killpg(self.process, signal.SIGKILL)
        if process == 0:
            os.waitpid(self.process, 0)
            return TIMED_OUT
        code = os.waitstatus_to_exitcode(status)
        return {0: SURVIVED, NOTHING_COLLECTED: NO_TEST}.get(code, KILLED)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def run(tests: Sequence[Path], mutant: Mutant | None) -> int:
    """In the forked process: its exit code."""
    if not tests:  # pytest would run all there are
        return NOTHING_COLLECTED
    import pytest
    import torch

    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    torch.set_num_threads(1)
    if mutant is not None:
        mutate(module_of(mutant.file), mutant.file, mutant.source)
    return int(pytest.main([*OPTIONS, *map(str, tests)]))


def finished(trials: list[Trial]) -> Iterator[tuple[Trial, str]]:
    """Remove those that have ended, and return how."""
    for trial in list(trials):
        outcome = trial.outcome()
        if outcome is not None:
            trials.remove(trial)
            yield trial, outcome
