"""Two runs never work on one result at once, and a dead one blocks nobody."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from orchestrator.errors import UserError
from orchestrator.storage import lease
from orchestrator.storage.files import write_json
from orchestrator.storage.lease import LEASE, leased


@pytest.fixture
def folder(store):
    folder = store.root / "work" / "search" / "abc"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.2)
    monkeypatch.setattr(lease, "PATIENCE", 2.0)


def left_behind(store, folder, machine: str, process: int) -> None:
    write_json(folder / LEASE, {"run": "x", "host": "somewhere", "machine": machine, "process": process, "beat": 3})
    store.push(folder / LEASE)


def test_the_second_says_so_and_stops(store, elsewhere, folder):
    with leased(store, folder, "search"):
        theirs = elsewhere.root / folder.relative_to(store.root)
        theirs.mkdir(parents=True, exist_ok=True)
        with (
            pytest.raises(UserError, match=f"search is being made by another run .process {os.getpid()} on"),
            leased(elsewhere, theirs, "search"),
        ):
            pytest.fail("two hold one lease")
    with leased(elsewhere, theirs, "search"):
        assert elsewhere.has(theirs / LEASE)
    assert not store.has(folder / LEASE)


def test_a_process_of_this_machine_that_is_no_more_is_seen_at_once(store, folder, monkeypatch):
    monkeypatch.setattr(lease, "PATIENCE", 1e6)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left_behind(store, folder, lease.machine(), int(gone.stdout))
    with leased(store, folder, "search"):
        assert json.loads((folder / LEASE).read_text())["process"] == os.getpid()


def test_a_machine_that_is_no_more_is_waited_for_and_then_replaced(store, folder):
    left_behind(store, folder, "a-spot-instance", 17)
    with leased(store, folder, "search"):
        assert json.loads((folder / LEASE).read_text())["process"] == os.getpid()


def test_a_half_written_lease_is_somebodys(store, folder):
    (folder / LEASE).write_text('{"run": "x", "ho')
    store.push(folder / LEASE)
    with leased(store, folder, "search"):
        pass
    assert not store.has(folder / LEASE)


def test_of_two_at_once_one_gets_it(store, folder):
    held, refused = [], []
    both_have_tried = threading.Event()

    def take() -> None:
        try:
            with leased(store, folder, "search"):
                held.append(1)
                both_have_tried.wait(10)
        except UserError:
            refused.append(1)
            both_have_tried.set()

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 1)


def test_a_holder_that_was_replaced_is_interrupted_and_leaves_the_others_lease_alone(store, folder):
    with pytest.raises(UserError, match="search is being made by another run .process 17 on somewhere"):  # noqa: SIM117
        with leased(store, folder, "search"):
            left_behind(store, folder, "a-spot-instance", 17)
            time.sleep(5)
    assert json.loads((folder / LEASE).read_text())["process"] == 17
