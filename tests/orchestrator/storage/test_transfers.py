"""What goes to S3 and comes from it: how much at once, what an error stops, and what a message says is being done."""

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from obstore.exceptions import GenericError

from orchestrator.storage import address
from orchestrator.storage import remote as module
from orchestrator.storage.remote import LARGE, LARGE_ONES, PARTS, TRANSFERS, Remote, hurried

BOUND = 60.0  # seconds; none of these waits in vain


def test_how_much_is_under_way_at_once(s3, tmp_path, monkeypatch):
    remote, put, given = Remote(s3.format("parts")), obstore.put, list[dict[str, object]]()

    def noted(*arguments, **options):
        given.append(options)
        return put(*arguments, **options)

    monkeypatch.setattr(module.obstore, "put", noted)
    (tmp_path / "a").write_bytes(b"1")
    remote.put({"a": tmp_path / "a"})
    assert given == [{"max_concurrency": 4}]
    assert (TRANSFERS, LARGE, LARGE_ONES, PARTS) == (32, 5_000_000, 8, 4)


def test_after_a_failure_nothing_more_is_begun(s3, monkeypatch):
    begun, threads, has_ended = list[str](), list[int](), threading.Event()

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            threads.append(workers)
            super().__init__(workers)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            has_ended.set()
            super().shutdown(wait=wait)

    def act(_client: object, name: str) -> None:
        begun.append(name)
        if name == "0":
            raise GenericError("reset")
        assert has_ended.wait(BOUND)

    monkeypatch.setattr(module, "TRANSFERS", 2)
    monkeypatch.setattr(module, "ThreadPoolExecutor", Pool)
    with hurried(), pytest.raises(OSError, match="reset"):
        Remote(s3.format("cancelled")).transfer(act, map(str, range(6)), "writing")
    assert threads == [2] and set(begun) <= {"0", "1", "2"}


def test_a_file_that_goes_while_it_is_uploaded_is_no_error(s3, tmp_path, monkeypatch):
    remote, file, put = Remote(s3.format("going")), tmp_path / "a", obstore.put
    file.write_text("x")

    def then_gone(*arguments, **options):
        done = put(*arguments, **options)
        file.unlink()
        return done

    monkeypatch.setattr(module.obstore, "put", then_gone)
    remote.put({"a": file})
    assert not file.exists() and {name: size for name, (size, _) in remote.listed("a").items()} == {"a": 1}


def test_what_is_done_is_named(s3, tmp_path, monkeypatch):
    remote, doing = Remote(s3.format("named")), list[str]()

    def noted(action, what):
        doing.append(what)
        return action()

    monkeypatch.setattr(module, "patiently", noted)
    monkeypatch.setattr(remote, "way", " by a way")
    (tmp_path / "a").write_text("x")
    remote.put({"a.txt": tmp_path / "a"})
    remote.get({"a.txt": tmp_path / "b"})
    remote.read("a.txt")
    remote.listed("a.txt")
    remote.folders()
    remote.write("c.txt", b"", None)
    remote.delete(["a.txt"])
    done = ["writing a.txt", "reading a.txt", "reading a.txt", "listing a.txt", "listing the storage", "writing c.txt"]
    assert doing == [f"{what} by a way" for what in (*done, "removing a.txt")]


def test_slow_answers_are_said_now_and_then(s3, monkeypatch):
    remote, get, now, lines = Remote(s3.format("slow")), obstore.get, [1000.0], list[str]()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.log, "warning", lambda text, *parts: lines.append(text % parts))
    remote.write("a/status.json", b"{}", None)

    def ask(pause: float, seconds: float) -> int:
        def slow(*arguments: object, **options: object) -> object:
            now[0] += seconds
            return get(*arguments, **options)  # pyright: ignore[reportArgumentType, reportCallIssue]

        now[0] += pause
        monkeypatch.setattr(module.obstore, "get", slow)
        found = remote.read("a/status.json")
        assert found is not None and found[0] == b"{}"
        return len(lines)

    assert [ask(0, 4.9), ask(0, 5.0), ask(290, 60), ask(0, 6.0)] == [0, 1, 1, 2]
    assert lines[0].startswith("storage: reading a/status.json")
    assert "took 5 s: the network or the server is slow" in lines[0] and "took 6 s" in lines[1]


def test_a_bucket_of_amazon_s_needs_no_endpoint(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    remote = Remote("s3://bucket/runs?region=eu-central-1")
    assert (remote.bucket, remote.prefix) == ("bucket", "runs")

    def silent(_bucket: str) -> str:
        raise OSError("no answer")

    monkeypatch.setattr(address, "region_of", silent)
    with hurried(), pytest.raises(OSError, match="no answer") as caught:
        Remote("s3://bucket/runs")
    assert caught.value.filename == "opening s3://bucket/runs"


@pytest.fixture
def busy() -> Iterator[tuple[str, list[str]]]:
    """The address of a storage that answers to each request that it is busy, and the requests."""
    asked: list[str] = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"s3://bucket/x?endpoint_override=127.0.0.1:{server.server_port}&scheme=http", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_client_does_not_try_again_by_itself(busy, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    uri, asked = busy
    with hurried(), pytest.raises(OSError, match="503"):
        Remote(uri).read("a")
    assert asked == ["/bucket/x/a"]
