"""What the server answers, over real HTTP."""

import gzip
import http.client
import json
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.report.colours import FAINT, PALETTE, STATE_COLOURS
from orchestrator.storage.store import Store
from orchestrator.watch.replies import is_local
from orchestrator.watch.server import Server
from orchestrator.watch.state import Watcher
from tests.orchestrator.watch.served import served
from tests.orchestrator.watch.storages import RUN, write_run, write_search

FAILED = "student-05-T4.8-mix0.65"
LONG = 120.0  # seconds after which a test gives up


@pytest.fixture
def server(tmp_path, serve) -> Server:
    write_search(tmp_path, 6)
    return serve(tmp_path, write_run(tmp_path))


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONG)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_the_state_comes_as_json_and_packed_where_that_is_understood(server):
    answer, body = ask(server, "/state.json")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json; charset=utf-8")
    assert json.loads(body)["name"] == "demo"
    answer, packed = ask(server, "/state.json", **{"Accept-Encoding": "gzip, br"})
    assert answer.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(packed) == body


def test_an_unchanged_state_costs_nothing(server):
    tag = ask(server, "/state.json")[0].headers["ETag"]
    answer, body = ask(server, "/state.json", **{"If-None-Match": tag})
    assert (answer.status, body, answer.getheader("ETag")) == (304, b"", tag)
    assert ask(server, "/state.json", **{"If-None-Match": '"other"'})[0].status == 200


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/style.css", "/curves.js", "/state.json", f"/log/search/{FAILED}", "/none"]
)
def test_every_answer_is_guarded(server, path):
    headers = ask(server, path)[0].headers
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_shares_names_and_colours_with_the_report(server):
    answer, body = ask(server, "/names.js")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "text/javascript; charset=utf-8")
    lines = [line.removeprefix("export const ").removesuffix(";") for line in body.decode().splitlines()]
    names = {name: json.loads(value) for name, _, value in (line.partition(" = ") for line in lines)}
    assert names["STAGES"] == ["teachers", "search", "final"]
    assert list(names["QUANTITIES"]) == ["accuracy", "log_loss", "loss", "learning_rate"]
    assert names["PALETTE"] == list(PALETTE) and names["STATES"] == STATE_COLOURS and names["FAINT"] == FAINT


def test_a_status_of_another_version_is_said(server, tmp_path):
    write_run(tmp_path, schema=9)
    answer, body = ask(server, "/state.json")
    assert answer.status == 503 and b"status.json has schema 9, of a newer Stillhouse" in body


def test_a_failure_has_its_log_as_plain_text(server):
    answer, body = ask(server, f"/log/search/{FAILED}")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "text/plain; charset=utf-8")
    assert body.startswith(b"Traceback") and body.endswith(b"in epoch 5\n")


@pytest.mark.parametrize(
    "path",
    [
        "/log/../../x",
        f"/log/search/../../../../{RUN}/status.json",
        f"/log/search/..%2F..%2F..%2F..%2F{RUN}",
        f"/log/search/%2e%2e/{FAILED}",
        "/log/search/..",
        "/log/search/student-00-T1.0-mix0.00",  # it has not failed
        f"/log/teachers/{FAILED}",
        f"/log/search/{FAILED}/trial.json",
        "/log//",
        "/../server.py",
        "/server.py",
        "/page.html",
        "/%2e%2e/report/build.py",
        f"/{RUN}/status.json",
        "//x",
        "/state.json/",
    ],
)
def test_whatever_else_is_asked_for_is_not_there(server, path):
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server, method):
    answer, body = ask(server, "/state.json", method)
    assert (answer.status, answer.getheader("Content-Type")) == (405, "text/plain; charset=utf-8")
    assert b"<" not in body


def test_head_says_the_same_without_a_body(server):
    answer, body = ask(server, "/page.js", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.getheader("Content-Length") or 0) > 1000


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.0.2.1", "127.0.0.1.evil.example", "[", ""])
def test_a_name_that_only_leads_here_gets_nothing(server, host):
    assert ask(server, "/state.json", Host=host)[0].status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "127.0.0.2", "[::1]:8266", "LOCALHOST"])
def test_this_machine_may_call_itself_what_it_likes(host):
    assert is_local(host)


def test_a_storage_that_cannot_be_read_is_said(server, tmp_path):
    (tmp_path / RUN / "status.json").unlink()
    (tmp_path / RUN / "status.json").mkdir()
    answer, body = ask(server, "/state.json")
    assert (answer.status, body[:26]) == (503, b"the storage cannot be read")


@pytest.mark.parametrize("odd", [{"started": "x"}, {"updated": "yesterday"}])
def test_a_time_that_is_none_is_damage_of_the_status(server, tmp_path, odd):
    file = tmp_path / RUN / "status.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    answer, body = ask(server, "/state.json")
    assert answer.status == 503 and f"{RUN}/status.json is damaged (".encode() in body


def test_a_damaged_status_is_said_and_not_read_again_at_once(server, tmp_path, monkeypatch):
    (tmp_path / RUN / "status.json").write_text("{")
    monkeypatch.setattr("orchestrator.watch.state.EVERY", 0.0)
    answer, body = ask(server, "/state.json")
    assert (answer.status, body[:26]) == (503, b"the storage cannot be read")
    monkeypatch.setattr("orchestrator.watch.state.EVERY", 60.0)
    write_run(tmp_path)
    assert ask(server, "/state.json")[0].status == 503
    monkeypatch.setattr("orchestrator.watch.state.EVERY", 0.0)
    assert ask(server, "/state.json")[0].status == 200


def test_a_taken_port_is_one_line(server, tmp_path):
    port = server.port
    with pytest.raises(
        UserError, match=f"cannot listen on 127.0.0.1, port {port}: Address already in use; choose another"
    ):
        Server(Watcher(Store(tmp_path), tmp_path / RUN), "127.0.0.1", port)


def test_a_browser_that_goes_away_leaves_the_server_as_it_was(server, caplog):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # it resets
            connection.sendall(b"GET /curves.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert ask(server, "/state.json")[0].status == 200
    assert caplog.records == []


@contextmanager
def slow_clients(server: Server, ending: str) -> Iterator[list[socket.socket]]:
    """Clients that have asked for a log, with half a request or a whole one, and read nothing."""
    with ExitStack() as connections:
        clients = [
            connections.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=LONG))
            for _ in range(20)
        ]
        for client in clients:
            client.sendall(f"GET /log/search/{FAILED} HTTP/1.1\r\nHost: localhost\r\n{ending}".encode())
        yield clients


@pytest.fixture
def log(tmp_path) -> Path:
    """An error text that is longer than what the sockets of both sides hold."""
    write_search(tmp_path, 6)
    file = tmp_path / f"work/search/bbbb/trials/{FAILED}/failure.txt"
    file.write_text("a line of an error\n" * 10**6)
    return file


SLOW = pytest.mark.parametrize("ending", ["", "\r\n"], ids=["half a request", "an answer that is not read"])


@SLOW
def test_slow_clients_keep_nobody_waiting(tmp_path, serve, log, ending):
    server = serve(tmp_path, write_run(tmp_path))
    with slow_clients(server, ending):
        assert ask(server, f"/log/search/{FAILED}")[1] == log.read_bytes()


@SLOW
@pytest.mark.usefixtures("log")
def test_slow_clients_are_dropped(tmp_path, serve, monkeypatch, ending):
    monkeypatch.setattr("orchestrator.watch.server.IDLE", 0.5)
    with slow_clients(serve(tmp_path, write_run(tmp_path)), ending) as clients:
        for client in clients:
            closed = select.poll()
            closed.register(client, select.POLLRDHUP)  # and a reset, which needs no name
            assert closed.poll(1000 * LONG)


@pytest.mark.integration
def test_serve_listens_on_the_loopback_address_alone_until_ctrl_c(tmp_path):
    with served(tmp_path, write_run(tmp_path)) as (process, line):
        assert line.startswith(f"{RUN} is shown at http://127.0.0.1:")
        port = int(line.split(":")[2].split("/")[0])
        assert listening(process.pid) == {("0100007F", port)}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
        assert (process.returncode, out, err) == (0, "", "")


def listening(process: int) -> set[tuple[str, int]]:
    """(address in hexadecimal, port) of the sockets that a process listens on, as Linux lists them."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("NOT TESTED what the server listens on: this is not Linux")
    sockets = {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()}
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    ours = [line[1].split(":") for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]
    return {(address, int(port, 16)) for address, port in ours}
