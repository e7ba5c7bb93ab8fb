"""How objects in S3 are asked for: which client, which thread, how long, and what an error becomes."""

import errno
import logging
import os
import threading
import time

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, InvalidPathError, PreconditionError

from orchestrator.errors import UserError
from orchestrator.storage import remote as module
from orchestrator.storage.remote import (
    HURRIED_TIMEOUT,
    LOCAL,
    TIMEOUT,
    Remote,
    as_os_errors,
    first_line,
    fraction_of,
    hurried,
    is_file,
    is_version,
    mark,
    mirror_of,
    patiently,
    reason_of,
    version_of,
)


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def test_a_storage_may_be_out_of_reach_for_three_minutes(clock, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(module.log, "warning", lambda text, *parts: lines.append(text % parts))

    def fails() -> None:
        raise OSError(errno.EIO, "no answer\nat all")

    with pytest.raises(OSError) as raised:
        patiently(fails, "reading a")
    assert clock.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, *([15.0] * 10)]  # 165.5 s; one more pause would be 180.5
    assert (raised.value.errno, raised.value.strerror, raised.value.filename) == (
        *(errno.EIO, "no answer\nat all", "reading a"),
    )
    assert lines[0] == "storage: reading a: [Errno 5] no answer; again in 0.5 s" and len(lines) == 15


def test_it_is_tried_again_until_it_answers(clock):
    answers = iter([OSError("no"), OSError("no"), None])

    def sometimes() -> str:
        if error := next(answers):
            raise error
        return "here"

    assert patiently(sometimes, "reading a") == "here" and clock.pauses == [0.5, 1.0]


def test_an_error_without_a_number_is_one_of_input_and_output_and_keeps_its_first_line(clock):
    def fails() -> None:
        raise OSError("first\nsecond")

    with hurried(), pytest.raises(OSError) as raised:
        patiently(fails, "reading a")
    assert (raised.value.errno, raised.value.strerror, clock.pauses) == (errno.EIO, "first", [])


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "none"), *(OSError(one, "here") for one in LOCAL)])
def test_what_no_patience_helps_is_raised_at_once(clock, error):
    def fails() -> None:
        raise error

    with pytest.raises(OSError) as raised:
        patiently(fails, "reading a")
    assert raised.value is error and clock.pauses == []


def test_of_this_machine_are_its_disk_and_its_rights():
    assert set(LOCAL) == {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG}


def test_who_is_in_a_hurry_is_answered_or_refused_within_ten_seconds(s3):
    remote = Remote(s3.format("clients"))
    assert remote.now is remote.clients[TIMEOUT] and (TIMEOUT, HURRIED_TIMEOUT) == (300, 10)
    with hurried():
        assert remote.now is remote.clients[HURRIED_TIMEOUT]
    assert remote.now is remote.clients[TIMEOUT]


def test_one_object_is_transferred_by_the_caller_and_several_at_once(s3):
    remote, used = Remote(s3.format("threads")), dict[str, threading.Thread]()
    together = threading.Barrier(2)

    def note(_client: object, name: str) -> None:
        used[name] = threading.current_thread()
        if name != "alone":
            together.wait(60.0)  # so both are under way at once

    remote.transfer(note, ["alone"], "noting")
    remote.transfer(note, ["a", "b"], "noting")
    remote.transfer(note, [], "noting")
    assert used["alone"] is threading.current_thread()
    assert len({used["a"], used["b"], used["alone"]}) == 3


@pytest.mark.parametrize(
    ("names", "doing"),
    [(["a"], "writing a"), (["a", "b"], "writing a and 1 more"), (["a", "b", "c"], "writing a and 2 more")],
)
def test_what_fails_is_named_with_how_many_are_left(s3, names, doing):
    def fails(_client: object, _name: str) -> None:
        raise GenericError("reset")

    with hurried(), pytest.raises(OSError) as raised:
        Remote(s3.format("failing")).transfer(fails, names, "writing")
    assert (raised.value.errno, raised.value.strerror, raised.value.filename) == (errno.EIO, "reset", doing)


@pytest.mark.parametrize(
    ("error", "number", "text"),
    [
        (GenericError("connection reset\nDebug source: ..."), errno.EIO, "connection reset"),
        (GenericError("<Error><Message>Slow down,\nplease</Message></Error>"), errno.EIO, "Slow down,\nplease"),
        (FileNotFoundError("gone"), errno.ENOENT, "gone"),
    ],
)
def test_the_client_s_errors_become_the_system_s(error, number, text):
    with pytest.raises(OSError) as raised, as_os_errors():
        raise error
    assert (raised.value.errno, raised.value.strerror) == (number, text)


@pytest.mark.parametrize("error", [AlreadyExistsError("x"), PreconditionError("x")])
def test_that_a_condition_was_not_met_is_no_error_of_the_storage(error):
    with pytest.raises(type(error)), as_os_errors():
        raise error


@pytest.mark.parametrize(("text", "name"), [('Path: "a/../b": bad', "a/../b"), ("bad", "bad")])
def test_a_name_that_leads_out_of_the_mirror_is_a_user_s_error(text, name):
    with pytest.raises(UserError, match=f"leads out of it: {name}; remove that"), as_os_errors():
        raise InvalidPathError(text)


@pytest.mark.parametrize(
    ("error", "line"),
    [(OSError(), "OSError"), (ValueError("  \n a\n b"), "a"), (KeyError("x"), "'x'")],
)
def test_the_first_line_of_an_error_or_else_its_kind(error, line):
    assert first_line(error) == reason_of(error) == line


def test_a_condition_is_by_all_that_the_server_tells_of_a_version():
    assert version_of({"e_tag": '"a"', "version": None}) == {"e_tag": '"a"'}
    assert version_of({"e_tag": '"a"', "version": "7"}) == {"e_tag": '"a"', "version": "7"}
    assert version_of({"e_tag": None, "version": None}) == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b.txt", True), ("log.txt", True), ("a.b/folder", False), ("a/b.c/d", False), ("a/", False), ("x", False)],
)
def test_empty_objects_are_files_where_their_name_has_an_ending(name, expected):
    assert is_file(name) is expected


def test_a_copy_s_version_is_lost_with_any_change(tmp_path):
    file = tmp_path / "a"
    file.write_text("1234")
    mark(file, '"v1"')
    assert is_version(file, 4, '"v1"')
    assert not is_version(file, 4, '"v2"') and not is_version(file, 5, '"v1"')
    assert not is_version(tmp_path / "none", 4, '"v1"')
    os.utime(file)
    assert not is_version(file, 4, '"v1"')


def test_a_copy_s_version_is_in_the_nanoseconds_of_this_moment(tmp_path):
    (tmp_path / "a").write_text("1234")
    before = time.time_ns() // 10**9
    mark(tmp_path / "a", '"v1"')
    at = (tmp_path / "a").stat().st_mtime_ns
    assert before <= at // 10**9 <= time.time_ns() // 10**9
    assert at % 10**9 == fraction_of('"v1"') == 845_052_074


def test_each_address_has_a_mirror_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path))
    one, other = mirror_of("s3://a/b"), mirror_of("s3://a/c")
    assert one != other and one.parent == other.parent == tmp_path and one == mirror_of("s3://a/b")
    assert len(one.name) == 16


def test_an_object_is_written_where_it_is_as_it_was_read(s3):
    remote = Remote(s3.format("conditions"))
    assert remote.read("a") is None
    first = remote.write("a", b"1", None)
    assert first is not None and remote.write("a", b"2", None) is None
    found = remote.read("a")
    assert found == (b"1", first)
    second = remote.write("a", b"22", first)
    assert second is not None and second != first and remote.write("a", b"3", first) is None
    assert remote.listed("a") == {"a": (2, second["e_tag"])}
    assert remote.listed("") == remote.listed("a")
    remote.delete(["a", "never there"])
    assert remote.read("a") is None and remote.listed("") == {}


@pytest.mark.parametrize("has_bulk", [True, False])
def test_many_objects_are_removed_in_one_request_where_the_server_has_it(s3, has_bulk, monkeypatch):
    remote = Remote(s3.format(f"bulk-{has_bulk}"))
    names = [f"a/{number}.json" for number in range(40)]
    for name in names:
        remote.write(name, b"{}", None)
    asked: list[object] = []
    lines: list[str] = []
    monkeypatch.setattr(module.log, "info", lambda text, *parts: lines.append(text % parts))
    delete = obstore.delete

    def counted(client, what):
        asked.append(what)
        if not has_bulk and client is bulk:
            raise GenericError("NotImplemented")
        delete(client, what)

    bulk = remote.bulk
    monkeypatch.setattr(module.obstore, "delete", counted)
    remote.delete(iter(names[:20]))
    assert asked == [names[:20]] if has_bulk else sorted(map(str, asked[1:])) == sorted(names[:20])
    assert lines == ([] if has_bulk else ["20 objects are removed one by one: [Errno 5] NotImplemented"])
    asked.clear()
    remote.delete([*names[20:], "never there"])
    assert len(asked) == (1 if has_bulk else 22) and remote.listed("") == {}
    asked.clear()
    with hurried():
        remote.delete(names[:2])
    assert sorted(map(str, asked)) == names[:2]  # each within the time of one that hurries
    asked.clear()
    remote.delete(names[:2])
    assert len(asked) == (1 if has_bulk else 3)


def test_the_log_is_the_projects():
    assert module.log is logging.getLogger("stillhouse")
