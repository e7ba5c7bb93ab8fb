"""What an autoscaler may start is known after its first report; where none comes, there is no autoscaler."""

import time

import pytest

from orchestrator.cluster import resources
from orchestrator.cluster.resources import wait_for_autoscaler


@pytest.mark.parametrize("types", [set(), {"worker"}])
def test_an_autoscaler_is_waited_for_until_its_first_report(types, monkeypatch):
    reports = iter([None, None, types])
    monkeypatch.setattr(resources, "reported_types", lambda: next(reports))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    wait_for_autoscaler()
    assert list(reports) == []


def test_a_head_without_an_autoscaler_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(resources, "reported_types", lambda: None)
    monkeypatch.setattr(resources, "FIRST_REPORT", 0.0)
    wait_for_autoscaler()
