"""Joining a cluster, or the one line why not; a kill stops a run wherever it was started."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.cluster import connection
from orchestrator.cluster.connection import connected, terminated, wait_for_head
from orchestrator.errors import UserError
from orchestrator.storage.lease import interrupt


@pytest.mark.usefixtures("disconnected")
def test_a_dashboard_s_address_is_no_cluster_s(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster can be joined at http://127.0.0.1:1 .*HOST:PORT"), connected():
        pass


@pytest.mark.usefixtures("disconnected")
def test_a_head_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(connection, "JOINING", 0.0)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError, match=r"joined at 127.0.0.1:1 \(.*Connection refused\)"), connected():
        pass
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_head_that_is_starting_is_waited_for(monkeypatch):
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        monkeypatch.setattr(time, "sleep", lambda _: head.listen())  # refused before, accepted afterwards
        wait_for_head(f"127.0.0.1:{head.getsockname()[1]}")


@pytest.mark.parametrize("address", ["local", "auto", "ray://head:10001", "http://127.0.0.1:1", "127.0.0.1:port"])
def test_other_addresses_are_for_ray_to_judge(address, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", None)
    wait_for_head(address)


LOCAL = """
import os
import signal
import ray
from orchestrator.cluster import connection
connection.wait_for_autoscaler = connection.wait_for_head = None
before = signal.getsignal(signal.SIGTERM)
with connection.connected():
    within = signal.getsignal(signal.SIGTERM)
    environment = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    bare = not ray.get_runtime_context().runtime_env  # else none of the processes that Ray keeps ready is used
print(within is connection.terminated, signal.getsignal(signal.SIGTERM) is before is signal.SIG_DFL)
print(bare, environment.items() >= connection.MALLOC.items(), os.environ.keys() & connection.MALLOC.keys())
"""


@pytest.mark.integration
def test_a_cluster_started_here_is_not_waited_for_and_sigterm_is_put_back(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = subprocess.run([sys.executable, "-c", LOCAL], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "True True\nTrue True set()\n"), done.stderr


@pytest.mark.parametrize(
    ("job", "names"),
    [
        (None, {"A", "B"}),
        ('{"metadata": {"job_submission_id": "one"}}', {"A", "B"}),
        ('{"runtime_env": {"env_vars": {"B": "3", "C": "4"}}}', {"A"}),
    ],
)
def test_what_a_job_sets_for_its_processes_is_not_set_again(monkeypatch, job, names):
    """Ray refuses that, even where both values are the same."""
    asked: dict[str, Any] = {}

    def init(**options: Any) -> None:
        asked.update(options)
        raise ConnectionError("no cluster")

    monkeypatch.setattr(connection, "MALLOC", {"A": "1"})
    monkeypatch.setattr(connection.arithmetic, "chosen", lambda: {"B": "2"})
    monkeypatch.setattr("ray.init", init)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    if job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    with pytest.raises(UserError, match="no cluster"), connection.joined("auto"):
        pass
    assert asked["runtime_env"]["env_vars"].keys() == names


@pytest.fixture
def handlers() -> Iterator[None]:
    """Handlers of a process in the background of a script, as far as a run has set them; others afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminated)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_kill_stops_a_run_that_ctrl_c_does_not():
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):  # another run has taken its lease
        interrupt()
        time.sleep(60)


@pytest.mark.usefixtures("handlers")
def test_a_kill_is_told_to_whoever_listens_to_ctrl_c():
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    signal.raise_signal(signal.SIGTERM)
    interrupt()
    until = time.monotonic() + 60
    while len(heard) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert heard == [signal.SIGINT, signal.SIGINT]


@pytest.mark.usefixtures("disconnected")
def test_ray_that_does_not_start_on_a_busy_machine_is_one_line(monkeypatch):
    """Ray waits for 30 seconds, and then raises no subclass of Exception."""

    def late(**_: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", late)
    line = (
        r"^Ray does not start on this machine \(The current node timed out .*\); if it is busy, give the same command"
    )
    with pytest.raises(UserError, match=line), connected():
        pass
