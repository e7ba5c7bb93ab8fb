"""Addresses at which no cluster can be joined are one line."""

import pytest

from orchestrator.cluster import connected
from orchestrator.errors import UserError


def test_a_dashboard_s_address_is_no_cluster_s(monkeypatch):
    import ray

    if ray.is_initialized():
        pytest.skip("a cluster is connected to already")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster can be joined at http://127.0.0.1:1 .*HOST:PORT"), connected():
        pass
