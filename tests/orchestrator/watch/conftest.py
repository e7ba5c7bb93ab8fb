"""A storage, a page of a run in it, and one browser for all tests."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.storage.store import Store
from orchestrator.watch import state
from orchestrator.watch.server import Server
from orchestrator.watch.state import Watcher


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Server]]:
    """Serves a run of a storage until the test ends; the storage is read anew for every question."""
    monkeypatch.setattr(state, "EVERY", 0.0)
    with ExitStack() as servers:

        def start(root: Path, run: Path) -> Server:
            server = servers.enter_context(Server(Watcher(Store(root), run), "127.0.0.1", 0))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            servers.callback(thread.join)
            servers.callback(server.stop)
            return server

        yield start


@pytest.fixture
def open_page(browser):
    """Opens an address and waits until it shows a state."""

    def show(url, **options):
        browser.complaints.clear()
        browser.open(url, **options)
        browser.wait("document.readyState === 'complete' && document.querySelector('.pill') !== null")

    yield show
    browser.call("Page.navigate", url="about:blank")


@pytest.fixture
def page(serve, open_page):
    """Opens the page of a run."""
    return lambda root, run, **options: open_page(serve(root, run).url, **options)
