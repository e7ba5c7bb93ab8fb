"""One made-up run and its page for all tests that only read."""

from pathlib import Path

import pytest

from tests.orchestrator.report.pages import Page, read
from tests.orchestrator.report.sample_runs import write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="session")
def page(run) -> Page:
    return read(run)
