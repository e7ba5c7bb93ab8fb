"""Whether the process that made a file is still running."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.storage.owner import begun, is_dead_here, machine, this_process

US = this_process()


def test_this_process_is_alive():
    assert {"machine": machine(), "process": os.getpid(), "begun": begun(os.getpid())} == US
    assert not is_dead_here(US)


def test_a_process_that_has_ended_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = {"machine": machine(), "process": child.pid, "begun": begun(child.pid)}
    assert not is_dead_here(owner)
    child.communicate()
    assert is_dead_here(owner)


@pytest.mark.skipif(US["begun"] is None, reason="this system does not say when a process began")
def test_another_process_with_the_same_number_is_not_the_owner():
    assert is_dead_here({**US, "begun": US["begun"] - 1})
    assert is_dead_here({**US, "process": 1, "begun": -1})


def test_without_a_start_the_number_decides():
    assert not is_dead_here({"machine": machine(), "process": os.getpid()})
    assert not is_dead_here({**US, "begun": None})


def test_a_process_that_the_system_hides_may_be_alive(monkeypatch):
    monkeypatch.setattr("orchestrator.storage.owner.begun", lambda process: None)
    assert not is_dead_here({**US, "begun": 17})


def test_nothing_is_known_about_a_process_of_another_machine():
    assert not is_dead_here({**US, "machine": "another", "begun": -1})
    assert not is_dead_here({"process": 0})


@pytest.mark.skipif(US["begun"] is None, reason="this system does not say when a process began")
def test_the_name_of_a_program_does_not_matter(tmp_path):
    """It stands in brackets before the time, and may hold brackets and spaces itself."""
    odd = tmp_path / "a) b (c"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        try:
            ours, theirs = begun(os.getpid()), begun(process.pid)
            assert ours is not None and theirs is not None and theirs >= ours
        finally:
            process.kill()


@pytest.mark.skipif(not Path("/proc/self/ns/pid").is_symlink(), reason="this system has no name spaces")
def test_a_machine_is_a_boot_and_a_name_space_of_it():
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert machine() == f"{boot} {Path('/proc/self/ns/pid').readlink()}"
