"""A real S3 protocol server on loopback, for whatever takes a storage, and a real browser."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks.browser import Browser, NoBrowser, chromium
from orchestrator.storage.store import Store


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with ExitStack() as open_one:
        try:
            found = open_one.enter_context(chromium())
        except NoBrowser:
            pytest.skip("NOT TESTED in a browser: there is no chromium")
        yield found


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an empty prefix, with `{}` for its name."""
    import boto3
    from moto.server import ThreadedMotoServer

    patch = pytest.MonkeyPatch()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket="bucket")
    yield f"s3://bucket/{{}}?endpoint_override=127.0.0.1:{port}&scheme=http"
    server.stop()
    patch.undo()


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path, monkeypatch) -> Store:
    """A storage, as a folder and as objects behind a mirror."""
    if request.param == "folder":
        return Store(tmp_path / "storage")
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "mirror"))
    return Store(request.getfixturevalue("s3").format(tmp_path.name))


@pytest.fixture
def elsewhere(store, tmp_path, monkeypatch) -> Store:
    """The same storage as another machine sees it."""
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "another-mirror"))
    return Store(store.uri)
