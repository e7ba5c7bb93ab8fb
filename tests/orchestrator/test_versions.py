"""Numbers of two versions never end in one run."""

import re
import time

import pytest

from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.work import require_versions, working
from orchestrator.versions import FILES, NUMBERS, begun_with, require_same, unlike, versions


def test_what_computed_a_result_is_told():
    told = versions()
    assert told["torch"] == "2.11.0" and re.fullmatch(r"[0-9a-f]{16}", told["source"])


@pytest.mark.parametrize("name", NUMBERS)
def test_another_version_is_refused_by_name(name):
    require_same(versions(), "search")
    with pytest.raises(UserError, match=rf"search was begun with {name if name != 'source' else 'code'}"):
        require_same({**versions(), name: "other"}, "search")


COMMON = {"torch": "2.11.0", "processor": "Xeon", "arithmetic": "common 1"}


@pytest.mark.parametrize(
    ("then", "now", "names"),
    [
        (COMMON, COMMON, []),
        (COMMON, COMMON | {"processor": "EPYC"}, []),
        (COMMON, COMMON | {"processor": "EPYC", "torch": "2.12.0"}, ["torch"]),
        (COMMON, COMMON | {"processor": "EPYC", "arithmetic": "common 2"}, ["arithmetic", "processor"]),
        (
            COMMON | {"arithmetic": "of the CPU"},
            COMMON | {"processor": "EPYC", "arithmetic": "of the CPU"},
            ["processor"],
        ),
        ({"processor": "Xeon"}, {"processor": "EPYC"}, ["processor"]),  # of older versions
        ({"torch": "2.11.0"}, COMMON, ["arithmetic", "processor"]),
    ],
)
def test_another_cpu_makes_other_numbers_where_the_arithmetic_is_its_own(then, now, names):
    assert unlike(then, now) == names


def test_code_is_the_same_where_its_files_are_or_where_they_differ_in_comments_alone(monkeypatch):
    then = begun_with()
    require_same({**then, FILES: "with a comment"}, "search")
    with pytest.raises(UserError, match="search was begun with torch other"):
        require_same({**then, "torch": "other"}, "search")
    with pytest.raises(UserError, match="search was begun with code other"):
        require_same({**then, FILES: "other", "source": "other"}, "search")
    monkeypatch.setattr("orchestrator.versions.whole", None)  # equal files are not parsed
    versions.cache_clear()
    require_same(then, "search")


def test_a_node_of_another_version_works_on_nothing(store, elsewhere):
    with working(store, "search", "abc") as work:
        require_versions(elsewhere, elsewhere.root / work.folder.relative_to(store.root))
        file = work.folder / "versions.json"
        write_json(file, {**read_json(file), "machine": "riscv64"})
        store.push(file)
        require_versions(elsewhere, elsewhere.root / work.folder.relative_to(store.root))
        write_json(file, {**read_json(file), "torch": "2.9.1"})
        store.push(file)
        with pytest.raises(UserError, match=r"node .*abc was begun with torch 2.9.1, here it is 2.11.0"):
            require_versions(elsewhere, elsewhere.root / work.folder.relative_to(store.root))
        work.discard()


def test_seconds_are_counted_over_interruptions_and_nothing_is_left_of_finished_work(store):
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), working(store, "search", "abc") as work:
        work.started -= 100
        raise KeyboardInterrupt
    with working(store, "search", "abc") as work:
        assert 100 <= work.seconds <= 100 + time.monotonic() - began
        work.discard()
    assert not work.folder.exists() and not store.has(work.folder)
