"""What several test packages share: one Ray for the whole run, one thread for torch, and the real recordings."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from orchestrator.arithmetic import use_common

TRIES = 5  # at Ray's start, which a busy machine can hold up for longer than Ray waits


def pytest_configure(config: pytest.Config) -> None:
    # Ray Data 2.60 warns of its own defaults while it sets them, once a process.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning:ray.data.context",
    )
    # Asking Ray anything would join whatever cluster was last started on this machine: that of a test beside this one.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    use_common()  # as the command line does, whose numbers are compared with those of this process
    # A shell ignores Ctrl-C for what it starts in its background, and every process below would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The machine is shared: how long an example takes, or its making, shows nothing about the code.
    hypothesis.settings.register_profile(
        "stillhouse", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("stillhouse")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """On cores that others use too, torch's threads wait for each other: two take a hundred times as long as one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_maps(tmp_path_factory) -> Iterator[None]:
    """Maps of features, and mirrors of storages, are the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLHOUSE_MIRROR", str(tmp_path_factory.mktemp("mirror")))
        yield


@pytest.fixture(scope="session")
def _ray_ends() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def ray_cluster(_ray_ends: None) -> None:
    """A real Ray on this machine, which stays for the next test that uses it."""
    import ray

    for left in reversed(range(TRIES)):
        if ray.is_initialized():
            break
        try:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        except Exception as error:  # that is all that Ray says: it waits 30 s for its own start
            if not left or "timed out during startup" not in str(error):
                raise


@pytest.fixture
def disconnected() -> None:
    """No Ray in this process, whatever earlier tests have started."""
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """The folder of real recordings beside the checkout. The repository carries no copy of them."""
    folder = Path(__file__).parents[2] / "shared" / "audio"
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip(f"NOT TESTED on real recordings: {folder} is not there")
    return folder
