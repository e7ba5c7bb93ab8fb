"""A minute of `make fuzz`: every input is accepted, quarantined or refused in one line."""

import os
import random
from pathlib import Path

import pytest

from tests.fuzz.changing import EXECUTING, changed_bytes, changed_text
from tests.fuzz.kinds import KINDS, judge_storage, prepare_storage, recordings, renew
from tests.fuzz.trying import ACCEPTED, DIED, EXECUTED, FAULTS, HANG, REFUSED, TRACEBACK, Kind, outcomes

COUNTS = {"audio": 300, "corpus": 6, "yaml": 40, "tables": 40, "json": 16, "parquet": 16, "shards": 60, "names": 60}


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_is_more_than_refused(kind, tmp_path):
    found = list(outcomes(kind, 0, range(COUNTS[kind]), tmp_path))
    assert [outcome.number for outcome in found] == list(range(COUNTS[kind]))
    assert [outcome for outcome in found if outcome.what in FAULTS] == []
    assert {outcome.what for outcome in found} <= {ACCEPTED, REFUSED}
    assert any(outcome.what == REFUSED for outcome in found)


def test_what_is_not_changed_is_accepted(tmp_path):
    """Else everything would be refused, and nothing shown."""
    prepare_storage(tmp_path)
    renew(tmp_path)
    assert judge_storage(tmp_path) is None
    assert len(recordings()) > 100


DATA, TEXT = bytes(range(256)), "a: 1\nb: [2, 3]\nc: text\n"


@pytest.mark.parametrize(
    ("change", "good"),
    [(lambda draw: changed_bytes(draw, DATA), DATA), (lambda draw: changed_text(draw, TEXT), TEXT.encode())],
)
def test_changes_follow_from_the_seed_and_change_something(change, good):
    first = [change(random.Random(seed)) for seed in range(200)]
    assert first == [change(random.Random(seed)) for seed in range(200)]
    assert sum(one != good for one in first) > 180 and len(set(first)) > 150


def faulty(what: str) -> Kind:
    """An input with a fault of its own, between two without."""

    def write(_: random.Random, folder: Path) -> None:
        number = int((folder / "n").read_text()) + 1 if (folder / "n").exists() else 0
        (folder / "n").write_text(str(number))

    def judge(folder: Path) -> str | None:
        if (folder / "n").read_text() != "1":
            return None
        if what == TRACEBACK:
            raise KeyError("x")
        if what == DIED:
            os.abort()
        while what == HANG:
            pass
        if what == EXECUTED:
            (folder / "executed").touch()
        return None

    return Kind(lambda folder: None, write, judge)


@pytest.mark.parametrize("what", [TRACEBACK, DIED, HANG, EXECUTED])
def test_a_fault_is_noticed_and_the_next_input_is_tried(what, tmp_path, monkeypatch):
    place = tmp_path / "faulty.py"
    place.write_text(
        "from tests.fuzz import kinds, trying, test_fuzz\n"
        f"kinds.KINDS['faulty'] = test_fuzz.faulty({what!r})\n"
        "trying.SECONDS = 1\n"
    )
    program = "import faulty; from tests.fuzz.trying import child; child()"
    monkeypatch.setattr("tests.fuzz.trying.PROGRAM", program)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [outcome.what for outcome in outcomes("faulty", 0, range(3), tmp_path / "inputs")]
    assert found[:2] == [ACCEPTED, what]
    assert len(found) == 3


def test_what_would_be_executed_is_there():
    texts = [changed_text(random.Random(seed), "name: x\nseed: 1\n").decode(errors="replace") for seed in range(2000)]
    assert all(any(word in text for text in texts) for word in EXECUTING)
