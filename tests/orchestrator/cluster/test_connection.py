"""Addresses at which no cluster can be joined are one line; a kill stops a run wherever it was started."""

import signal
import time
from collections.abc import Iterator

import pytest

from orchestrator.cluster.connection import connected, terminated
from orchestrator.errors import UserError
from orchestrator.storage.lease import interrupt


def test_a_dashboard_s_address_is_no_cluster_s(monkeypatch):
    import ray

    if ray.is_initialized():
        pytest.skip("a cluster is connected to already")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster can be joined at http://127.0.0.1:1 .*HOST:PORT"), connected():
        pass


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
        time.sleep(1)


@pytest.mark.usefixtures("handlers")
def test_a_kill_is_told_to_whoever_listens_to_ctrl_c():
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    signal.raise_signal(signal.SIGTERM)
    interrupt()
    time.sleep(0.01)
    assert heard == [signal.SIGINT, signal.SIGINT]
