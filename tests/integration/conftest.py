"""A Ray for runs in tests that are about something else: starting one takes 15 seconds of a core, joining it one."""

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster


@pytest.fixture(scope="session")
def _head() -> Iterator[str]:
    """Address of a head that stays for the whole session."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield str(cluster.address)
    cluster.shutdown()


@pytest.fixture
def joined(_head, monkeypatch) -> None:
    """The test's runs join that head."""
    monkeypatch.setenv("RAY_ADDRESS", _head)


@pytest.fixture(scope="module")
def _all_joined(_head) -> Iterator[None]:
    """So do all of the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", _head)
        yield


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with one CPU, to which this process is connected."""
    ray.shutdown()  # whatever earlier tests have started
    one = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=one.address, log_to_driver=False)
    yield one
    ray.shutdown()
    one.shutdown()
