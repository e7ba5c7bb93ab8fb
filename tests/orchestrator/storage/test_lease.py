"""Two runs never work on one result at once, the second waits or is refused, and a dead one blocks nobody.

No test depends on speed: each waits for what it means, bounded by LONG.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.storage import lease
from orchestrator.storage.lease import LEASE, Holder, Lease, leased, living
from orchestrator.storage.register import Register
from orchestrator.storage.remote import Remote
from orchestrator.storage.store import Store
from orchestrator.storage.work import no_notice, sharing, working
from tests.orchestrator.storage.leases import GONE, held, write
from tests.waiting import LONG, wait_for


@pytest.fixture
def folder(store) -> Path:
    return store.root / "work" / "search" / "abc"


@pytest.fixture
def theirs(elsewhere, store, folder) -> Path:
    return elsewhere.root / folder.relative_to(store.root)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "LOOK", 0.05)


@pytest.fixture
def short(monkeypatch):
    """For holders that are dead: nobody who lives has to renew a lease in this time."""
    monkeypatch.setattr(lease, "PATIENCE", 0.5)


def test_the_second_run_is_refused_with_the_holders_name(store, elsewhere, folder, theirs):
    with (
        leased(store, folder, "the run demo-1"),
        pytest.raises(
            UserError,
            match=f"^the run demo-1 is already being made by process {os.getpid()} of .+ on .+, since 20.+; wait for",
        ),
        leased(elsewhere, theirs, "the run demo-1"),
    ):
        pytest.fail("two hold one lease")
    with leased(elsewhere, theirs, "the run demo-1"):
        assert held(store, folder)["process"] == os.getpid()
    assert not store.has(folder / LEASE) and not (folder / LEASE).exists()


def test_the_second_that_waits_sees_how_far_the_first_is_and_finds_its_result(store, elsewhere, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_7"}}')
    seen: list[Holder] = []
    order: list[str] = []

    def second() -> None:
        with working(elsewhere, "features", "abc", seen.append) as work:
            order.append("second")
            work.discard()

    other = threading.Thread(target=second)
    with working(store, "features", "abc", progress=lambda: (0.43, "17 of 40 clips")) as work:
        other.start()
        wait_for(lambda: len(seen) > 3)
        order.append("first")
        work.discard()
    other.join(LONG)
    assert order == ["first", "second"]
    assert {(holder.job, holder.fraction, holder.detail) for holder in seen} == {
        ("job raysubmit_7", 0.43, "17 of 40 clips")
    }
    assert not store.has(work.folder) and not work.folder.exists()


def test_work_stays_unless_it_is_discarded_and_its_seconds_add_up(store, elsewhere):
    with working(store, "search", "abc") as work:
        (work.folder / "trials").mkdir()
        (work.folder / "trials" / "one").write_text("x")
        store.push(work.folder)
        assert work.before == 0.0
        work.before = 100.0  # of an earlier start
    with working(elsewhere, "search", "abc") as again:
        assert (again.folder / "trials" / "one").read_text() == "x" and 100.0 <= again.before < 100.0 + LONG
        again.discard()
    assert not store.has(work.folder) and not elsewhere.has(again.folder)


def test_a_lease_that_was_given_back_leaves_nothing_behind(store, folder):
    with working(store, "search", folder.name):
        assert held(store, folder)["run"]
    assert Register(store, folder / LEASE).read() == ({}, None)


@pytest.mark.parametrize(("leases", "seconds"), [(0, 3.0), (1, 3.0), (2, 5.0), (3, 7.5), (50, 7.5)])
def test_many_leases_in_a_distant_storage_are_renewed_less_often(monkeypatch, leases, seconds):
    """Two every five seconds; no lease waits so long that it could miss two renewals and be lost."""
    monkeypatch.setattr(lease, "BEAT", 3.0)
    monkeypatch.setattr(lease, "held", set(range(leases)))
    assert lease.pause() == pytest.approx(seconds)


def test_only_leases_in_a_distant_storage_count(store, folder):
    with sharing(store, "teacher", ["a", "b"]), leased(store, folder, "search"):
        assert len(lease.held) == (3 if store.is_remote else 0)
    assert not lease.held


def test_a_renewal_whose_answer_was_lost_is_not_another_run_s(store, folder):
    lease_held = Lease(Register(store, folder / LEASE), "search", lambda: (0.5, "half"))
    lease_held.acquire(None)
    lost = lease_held.version
    assert lease_held.renew() and held(store, folder)["beat"] == 1
    lease_held.version = lost  # as if the answer had not come
    assert lease_held.renew() and held(store, folder)["run"] == lease_held.mine["run"]
    assert held(store, folder)["beat"] == 2 and lease_held.version != lost
    write(store, folder)
    assert not lease_held.renew() and held(store, folder)["run"] == "x"


def test_a_lease_that_somebody_removed_is_written_again_unless_its_block_has_ended(store, folder):
    lease_held = Lease(Register(store, folder / LEASE), "search", lambda: (0.5, "half"))
    lease_held.acquire(None)
    register = Register(store, folder / LEASE)
    assert register.remove(*register.read())
    assert lease_held.renew() and held(store, folder)["beat"] == 1
    assert register.remove(*register.read())
    lease_held.end()
    assert lease_held.renew() and register.read() == ({}, None)


@pytest.mark.usefixtures("short")
def test_a_takeover_is_logged_with_whom_it_takes_over(store, folder, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(lease.log, "info", lambda text, *parts: lines.append(text % parts))
    write(store, folder)
    with leased(store, folder, "the search of demo-1", no_notice):
        pass
    assert lines == [
        "the search of demo-1: job raysubmit_1 of na on spot-7, since 2026-11-28T05:00:00+00:00 is dead; "
        "its work is taken over"
    ]


def test_progress_is_renewed_with_the_lease(store, folder):
    done = [0.1]
    with leased(store, folder, "search", progress=lambda: (done[0], "trials")):
        assert held(store, folder)["fraction"] == 0.1
        done[0] = 0.2
        wait_for(lambda: held(store, folder)["fraction"] == 0.2)


def test_runs_that_share_some_artifacts_never_wait_for_each_other(store, elsewhere):
    """Each wants two of three, in an order that would be a deadlock; each is made by one at a time."""
    at_work: list[str] = []
    most: list[int] = []

    def run(which: Store, keys: list[str]) -> None:
        for _ in range(5):
            with sharing(which, "teacher", keys):
                at_work.append("b")
                most.append(len(at_work))
                at_work.pop()

    threads = [threading.Thread(target=run, args=(store, ["b", "a"])) for _ in range(2)]
    threads.append(threading.Thread(target=run, args=(elsewhere, ["c", "b", "c"])))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert most == 15 * [1]
    assert [name for name in store.sizes() if name.startswith("work/")] == []


def test_a_process_of_this_machine_that_is_no_more_is_seen_at_once(store, folder, monkeypatch):
    monkeypatch.setattr(lease, "PATIENCE", 1e6)
    write(store, folder, **GONE)
    with leased(store, folder, "search"):
        assert held(store, folder)["process"] == os.getpid()


@pytest.mark.usefixtures("short")
def test_a_machine_that_is_no_more_is_waited_for_and_then_replaced(store, folder):
    write(store, folder)
    waited: list[Holder] = []
    with leased(store, folder, "search", waited.append):
        assert held(store, folder)["process"] == os.getpid()
    assert waited[0].job == "job raysubmit_1"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("text", ['{"run": "x", "ho', "[1]"])
def test_a_half_written_lease_is_somebodys(store, folder, text):
    folder.mkdir(parents=True)
    (folder / LEASE).write_text(text)
    if store.is_remote:
        store.remote.put({store.name(folder / LEASE): folder / LEASE})
    waited: list[Holder] = []
    with leased(store, folder, "search", waited.append):
        assert held(store, folder)["process"] == os.getpid()
    assert waited[0].job == "unknown"
    assert not store.has(folder / LEASE)


def test_of_many_at_once_one_gets_it(store, folder):
    got, refused = [], []
    all_have_tried = threading.Event()

    def take() -> None:
        try:
            with leased(store, folder, "search"):
                got.append(1)
                all_have_tried.wait(LONG)
        except UserError:
            refused.append(1)
            if len(refused) == 5:
                all_have_tried.set()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)


def test_of_two_that_find_one_dead_holder_one_takes_it_over(store, elsewhere, folder, theirs):
    """Each has looked before the other writes, as two do that wait for one holder's death."""
    write(store, folder)
    registers = [Register(store, folder / LEASE), Register(elsewhere, theirs / LEASE)]
    seen = [register.read() for register in registers]
    assert seen[0][0] == seen[1][0] and seen[0][0]["process"] == 17
    written = [
        register.write({"run": run}, version)
        for register, run, (_, version) in zip(registers, ("first", "second"), seen, strict=True)
    ]
    assert written[0] is not None and written[1] is None
    assert held(elsewhere, theirs)["run"] == "first"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As the command line is, whatever earlier tests made of the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_holder_that_was_replaced_is_interrupted_and_leaves_the_others_lease_alone(store, folder):
    with pytest.raises(UserError, match="search was taken over by job raysubmit_1 of na on spot-7"):  # noqa: SIM117
        with leased(store, folder, "search"):
            write(store, folder)
            time.sleep(LONG)
    assert held(store, folder)["process"] == 17


def test_a_replaced_holder_does_not_write_over_its_successor(store, folder):
    """Not even where it was replaced since it last looked."""
    ours = Lease(Register(store, folder / LEASE), "search", lambda: (0.0, ""))
    ours.acquire(None)
    assert ours.renew()
    write(store, folder)
    assert not ours.renew()
    ours.release()
    assert held(store, folder)["process"] == 17


def test_a_lease_whose_last_renewal_went_unanswered_is_still_ours(store, folder):
    ours = Lease(Register(store, folder / LEASE), "search", lambda: (0.0, ""))
    ours.acquire(None)
    register = Register(store, folder / LEASE)
    register.write(ours.content(), register.read()[1])
    assert ours.renew() and ours.renew()
    register.remove(*register.read())  # by hand
    assert ours.renew()
    assert held(store, folder)["run"] == ours.mine["run"]
    ours.release()
    assert not store.has(folder / LEASE)


def test_a_lease_is_given_back_beside_a_renewal_that_is_on_its_way(store, folder, monkeypatch):
    """The beat's writing arrives when the holder is about to remove the lease as it was."""
    ours = Lease(Register(store, folder / LEASE), "search", lambda: (0.0, ""))
    ours.acquire(None)
    remove, removed = Register.remove, list[bool]()

    def renewed_before(register: Register, value: dict[str, Any], version: Any) -> bool:
        if not removed:
            assert ours.renew()
        removed.append(remove(register, value, version))
        return removed[-1]

    monkeypatch.setattr(Register, "remove", renewed_before)
    ours.release()
    assert removed == [False, True] and not store.has(folder / LEASE)


def test_a_free_lease_takes_one_request_and_giving_it_back_two(store, folder, monkeypatch):
    if not store.is_remote:
        pytest.skip("a folder has no requests")
    asked = list[str]()
    for name in ("read", "write", "delete"):
        method = getattr(Remote, name)

        def noted(remote: Remote, *arguments: Any, name: str = name, method: Any = method) -> Any:
            asked.append(name)
            return method(remote, *arguments)

        monkeypatch.setattr(Remote, name, noted)
    ours = Lease(Register(store, folder / LEASE), "search", lambda: (0.0, ""))
    ours.acquire(None)
    ours.release()
    assert asked == ["write", "write", "delete"]


def test_a_beat_that_ends_after_its_block_interrupts_nobody(store, folder, monkeypatch):
    """Another run takes over, and the holder's thread sees that only when the block has ended."""
    is_reading, may_answer = threading.Event(), threading.Event()
    answer = Lease.renew

    def slow(ours: Lease) -> bool:
        is_reading.set()
        may_answer.wait(LONG)
        return answer(ours)

    monkeypatch.setattr(Lease, "renew", slow)
    beating: list[threading.Thread] = []
    with leased(store, folder, "search"):
        beating += [thread for thread in threading.enumerate() if thread.name.startswith("lease")]
        assert is_reading.wait(LONG)
        write(store, folder)
    assert all(thread.daemon and thread.is_alive() for thread in beating)  # nobody waits for it
    may_answer.set()
    for thread in beating:
        thread.join(LONG)
        assert not thread.is_alive()
    assert beating and held(store, folder)["process"] == 17


def test_the_beat_survives_whatever_a_renewal_raises(store, folder, monkeypatch):
    answer, raised, lines = Lease.renew, [], list[str]()
    monkeypatch.setattr(lease.log, "warning", lambda text, *parts: lines.append(text % parts))

    def failing(ours: Lease) -> bool:
        if len(raised) < 3:
            raised.append(1)
            raise TypeError("None / 1e9")
        return answer(ours)

    monkeypatch.setattr(Lease, "renew", failing)
    with leased(store, folder, "search"):
        wait_for(lambda: held(store, folder).get("beat", 0) > 1)
    assert len(raised) == 3
    assert lines == 3 * [f"the lease {folder / LEASE} could not be renewed: None / 1e9"]


def test_who_lives_is_found_for_all_leases_at_once(store):
    folders = [store.root / "work" / "search" / name for name in ("alive", "dead", "none", "too")]
    write(store, folders[1], **GONE)
    with leased(store, folders[3], "search"), leased(store, folders[0], "search"):
        found = living(store, [folder / LEASE for folder in folders])
    assert list(found) == [folders[0] / LEASE, folders[3] / LEASE]
    assert {holder.job for holder in found.values()} == {f"process {os.getpid()}"}


@pytest.mark.usefixtures("short")
def test_a_lease_that_is_never_renewed_is_nobody_s_who_lives(store, folder):
    write(store, folder)
    assert living(store, [folder / LEASE]) == {}


def test_a_lease_that_says_little_is_held_by_somebody_unknown():
    unknown = "unknown"
    assert Holder.of({}) == Holder(unknown, unknown, unknown, unknown, 0.0, "")
    lease = {"job": "process 7", "user": "ada", "host": "one", "started": "noon", "fraction": 0.4, "detail": "2 of 5"}
    assert Holder.of(lease) == Holder("process 7", "ada", "one", "noon", 0.4, "2 of 5")
