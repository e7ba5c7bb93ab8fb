"""The tool that mutates: what it makes of a file, which tests it takes, and that it sees what they notice."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="NOT TESTED how the source is mutated: mutmut is not installed")

from tests.mutants.__main__ import noticed
from tests.mutants.drawing import mutants_of
from tests.mutants.trying import KILLED, NO_TEST, SURVIVED, TIMED_OUT, nearest_tests

SOURCE = '''"""Docstring 1."""
@keep(1)
def half(x: int = 3) -> "float":
    """Docstring 2."""
    assert x < 5, "message"
    return x / 2
'''
LOSSES = Path("models/losses.py")


def test_what_computes_is_mutated_and_nothing_else():
    mutants = mutants_of(Path("half.py"), SOURCE)
    changed = [line[1:].strip() for mutant in mutants for line in mutant.diff.splitlines()[3:] if line[0] == "+"]
    assert [mutant.line for mutant in mutants] == [3, 5, 5, 6, 6]
    assert set(changed) == {
        'def half(x: int = 4) -> "float":',
        'assert x <= 5, "message"',
        'assert x < 6, "message"',
        "return x * 2",
        "return x / 3",
    }


def test_the_mirror_comes_first_and_other_folders_only_where_there_is_none():
    assert nearest_tests(LOSSES) == [Path("tests/models/test_losses.py"), Path("tests/models/test_fit.py")]
    batches = nearest_tests(Path("models/batches.py"))
    assert batches[0] == Path("tests/models/test_batches.py") and Path("tests/models/test_fit.py") in batches
    assert {test.parent for test in batches} == {Path("tests/models")}
    assert nearest_tests(Path("nowhere/nothing.py")) == []


def test_what_only_a_table_names_is_tested_by_its_room():
    found = nearest_tests(Path("orchestrator/stages/samplers.py"))
    assert Path("tests/orchestrator/stages/test_rounds.py") in found
    assert {test.parent for test in found} == {Path("tests/orchestrator/stages")}


TRIALS = """
import time
from pathlib import Path
from tests.mutants.drawing import Mutant
from tests.mutants.trying import Trial, nearest_tests
file = Path("models/losses.py")
source = file.read_text()
changes = [("", "", 300), ("temperature**2", "temperature**3", 300), ("import torch", "while True: pass", 10)]
for old, new, limit in changes:
    trial = Trial(nearest_tests(file), Mutant(file, 1, source, source.replace(old, new, 1)), limit)
    while (outcome := trial.outcome()) is None:
        time.sleep(0.05)
    print(outcome)
assert file.read_text() == source
"""


@pytest.mark.integration
def test_a_mutant_is_noticed_where_a_test_fails():
    done = subprocess.run([sys.executable, "-c", TRIALS], capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout.splitlines() == [SURVIVED, KILLED, TIMED_OUT], done.stderr


def test_a_share_has_wilson_s_interval():
    counts = Counter({KILLED: 8, TIMED_OUT: 1, SURVIVED: 1})
    assert noticed(counts, is_sample=False) == "90.0%"
    assert noticed(counts, is_sample=True) == "90.0% (59.6% to 98.2%)"
    assert noticed(counts + Counter({NO_TEST: 10}), is_sample=False) == "45.0%"
