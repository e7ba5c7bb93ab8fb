"""What a lease says of its holder, and what its holder does where the storage does not answer."""

import errno
import logging
import signal
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.storage import lease
from orchestrator.storage.lease import LEASE, Lease, leased, living
from orchestrator.storage.register import Register
from tests.orchestrator.storage.leases import GONE, held, write


def nothing_known() -> tuple[float, str]:
    return 0.0, ""


@pytest.fixture
def folder(store) -> Path:
    return store.root / "work" / "search" / "abc"


@pytest.fixture
def ours(store, folder) -> Lease:
    """A lease that nobody renews."""
    ours = Lease(Register(store, folder / LEASE), "search", nothing_known)
    ours.acquire(None)
    return ours


def test_a_lease_is_renewed_every_three_seconds_and_lost_after_thirty():
    assert (lease.BEAT, lease.RENEWALS, lease.PATIENCE, lease.LOOK) == (3.0, 0.4, 30.0, 0.5)
    assert lease.log is logging.getLogger("stillhouse")


def test_a_lease_says_who_holds_it_since_when_and_how_far(store, folder):
    with leased(store, folder, "search"):
        now = held(store, folder)
    assert (now["user"], now["host"]) == (lease.user_name(), socket.gethostname())
    assert datetime.fromisoformat(now["started"]).utcoffset() == timedelta(0) and len(now["started"]) == 25
    assert (now["fraction"], now["detail"]) == (0.0, "")


def test_progress_has_three_digits(store, folder):
    assert Lease(Register(store, folder / LEASE), "x", lambda: (0.12345, "")).content()["fraction"] == 0.123


def test_a_first_writing_whose_answer_was_lost_is_ours(store, folder, monkeypatch):
    ours, write, written = Lease(Register(store, folder / LEASE), "search", nothing_known), Register.write, []

    def unanswered(*arguments) -> None:
        written.append(write(*arguments))

    monkeypatch.setattr(Register, "write", unanswered)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    ours.acquire(None)
    assert len(written) == 1 and ours.version == written[0] is not None


def test_a_renewal_is_one_request(ours, store, folder, monkeypatch):
    def read(_register: Register) -> None:
        pytest.fail("nothing is to be read")

    with monkeypatch.context() as patch:
        patch.setattr(Register, "read", read)
        assert ours.renew() and ours.renew()
    assert held(store, folder)["beat"] == 2


def test_a_storage_that_is_down_at_the_end_spoils_nothing(ours, monkeypatch):
    def down(_register: Register) -> None:
        raise OSError(errno.EIO, "down")

    monkeypatch.setattr(Register, "read", down)
    ours.release()
    assert ours.taken_over() == "search was taken over by another run, since this one could not renew its lease"


def test_a_lease_that_is_renewed_again_and_again_is_removed_at_the_third_try_or_left(ours, monkeypatch):
    tries: list[object] = []

    def refuse(_register: Register, _value: object, version: object) -> bool:
        tries.append(version)
        return False

    monkeypatch.setattr(Register, "remove", refuse)
    ours.release()
    assert tries == 3 * [ours.version]


def test_a_lease_keeps_what_it_says_until_it_is_gone(ours, store, folder, monkeypatch):
    if not store.is_remote:
        pytest.skip("a folder's file goes in one step")
    monkeypatch.setattr(store.remote, "delete", lambda names: None)
    ours.release()
    assert held(store, folder) == ours.content()


def test_the_dead_and_the_missing_are_not_waited_for(store, folder, monkeypatch):
    write(store, folder, **GONE)

    def sleep(_seconds: float) -> None:
        pytest.fail("nobody is to be waited for")

    monkeypatch.setattr(lease.time, "sleep", sleep)
    assert living(store, [folder / LEASE, store.root / "none" / LEASE]) == {}


def test_who_has_just_ended_does_not_live(store, folder, monkeypatch):
    write(store, folder)
    register, sleep = Register(store, folder / LEASE), time.sleep

    def then_removed(seconds: float) -> None:
        register.remove(*register.read())
        sleep(seconds)

    monkeypatch.setattr(lease.time, "sleep", then_removed)
    assert living(store, [folder / LEASE]) == {}


def test_where_both_signals_are_ignored_nobody_is_interrupted(monkeypatch):
    sent: list[object] = []
    monkeypatch.setattr(lease.signal, "getsignal", lambda which: signal.SIG_IGN)
    monkeypatch.setattr(lease.signal, "pthread_kill", lambda thread, which: sent.append(which))
    lease.interrupt()
    assert sent == []
