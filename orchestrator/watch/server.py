"""`stillhouse watch`: the state of a run, and a page that shows it, over HTTP."""

import gzip
import ipaddress
import json
import logging
import socket
import socketserver
import sys
from collections.abc import Callable
from functools import cache, lru_cache, partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from orchestrator.errors import UserError
from orchestrator.report.charts import PANELS
from orchestrator.report.colours import FAINT, PALETTE, STATE_COLOURS
from orchestrator.storage.store import Store
from orchestrator.training.rows import TRAINING_STAGES
from orchestrator.watch.state import Watcher

log = logging.getLogger("stillhouse")

HERE = Path(__file__).parent
PAGES = {
    "/": (HERE / "page.html", "text/html"),
    "/style.css": (HERE.parent / "report" / "style.css", "text/css"),
    **{f"/{file.name}": (file, "text/css") for file in HERE.glob("*.css")},
    **{f"/{file.name}": (file, "text/javascript") for file in HERE.glob("*.js")},
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # plotly writes style attributes
        "img-src 'self' data: blob:",  # the icon, and the pictures of charts that people save
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
IDLE = 30  # seconds without a request after which a connection is closed
WORTH_PACKING = 1024  # bytes


class Reply(NamedTuple):
    status: HTTPStatus
    body: bytes = b""
    kind: str = "text/plain"
    tag: str = ""


class Server(ThreadingHTTPServer):
    """Listens at once. Raises UserError where it cannot."""

    def __init__(self, watcher: Watcher, host: str, port: int) -> None:
        try:
            self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__(address[:2], partial(Handler, watcher, is_loopback(str(address[0]))))  # pyright: ignore[reportArgumentType]
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port"
            ) from None
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's looks up this machine's name in the network

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a browser that disconnects in the middle of an answer; every other error is a bug."""
        if not isinstance(sys.exception(), ConnectionError):
            log.exception("a request of %s failed", client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD. A requested name is looked up in a table of what is served; it never becomes a path."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "stillhouse", ""
    timeout = IDLE
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def __init__(self, watcher: Watcher, loopback: bool, *connection: object) -> None:
        self.watcher, self.loopback = watcher, loopback
        super().__init__(*connection)  # pyright: ignore[reportArgumentType]

    def do_GET(self) -> None:
        self.send(self.reply(self.path.partition("?")[0]))

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def reply(self, path: str) -> Reply:
        """The answer to a GET of `path`."""
        if self.loopback and not is_local(self.headers.get("Host", "")):
            return Reply(HTTPStatus.MISDIRECTED_REQUEST, b"this page answers to localhost alone\n")
        try:
            if path == "/state.json":
                state = self.watcher.answer()
                return Reply(HTTPStatus.OK, state.body, "application/json", state.tag)
            text = self.watcher.log(*names) if (names := names_in(path)) else None
        except OSError as error:
            return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"the storage cannot be read: {error}\n".encode())
        if text is not None:
            return Reply(HTTPStatus.OK, text.encode())
        if path == "/names.js":
            return Reply(HTTPStatus.OK, names_js(), "text/javascript")
        if path == "/plotly.js":
            return Reply(HTTPStatus.OK, plotly(), "text/javascript")
        if path in PAGES:
            file, kind = PAGES[path]
            return Reply(HTTPStatus.OK, file.read_bytes(), kind)
        return Reply(HTTPStatus.NOT_FOUND, b"nothing here\n")

    def send(self, reply: Reply) -> None:
        """Send a reply: 304 where the browser has it already, packed by gzip where that is worth it."""
        tag = f'"{reply.tag}"'
        if reply.tag and tag in self.headers.get("If-None-Match", ""):
            reply = reply._replace(status=HTTPStatus.NOT_MODIFIED, body=b"")
        packed = len(reply.body) > WORTH_PACKING and "gzip" in self.headers.get("Accept-Encoding", "")
        body = pack(reply.body) if packed else reply.body
        self.send_response(reply.status)
        self.send_header("Content-Type", f"{reply.kind}; charset=utf-8")
        self.send_header("Vary", "Accept-Encoding")
        if reply.tag:
            self.send_header("ETag", tag)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        if reply.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def end_headers(self) -> None:
        """Add the security headers to every reply."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def names_in(path: str) -> tuple[str, str] | None:
    """(stage, trial) of /log/STAGE/TRIAL."""
    parts = path.split("/")
    return (unquote(parts[2]), unquote(parts[3])) if len(parts) == 4 and parts[:2] == ["", "log"] else None


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def is_local(host: str) -> bool:
    """Whether a Host header means this machine itself: any other is a stranger's name that was made to lead here."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or is_loopback(name)
    except ValueError:
        return False


@cache
def names_js() -> bytes:
    """What the page shares with the report and the stages, as a module: a name has one place, in Python."""
    names = {
        "STAGES": TRAINING_STAGES,
        "QUANTITIES": PANELS,
        "PALETTE": PALETTE,
        "STATES": STATE_COLOURS,
        "FAINT": FAINT,
    }
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in names.items()).encode()


@cache
def plotly() -> bytes:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().encode()


@lru_cache(maxsize=4)  # plotly.js, and the latest states
def pack(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=4)


def serve(store: Store, run: Path, host: str = "127.0.0.1", port: int = 8266, *, echo: Callable[[str], object]) -> None:
    """Show a run, live or finished, until Ctrl-C."""
    with Server(Watcher(store, run), host, port) as server:
        echo(f"{run.name} is shown at {server.url} until Ctrl-C")
        if not is_loopback(str(server.server_address[0])):
            echo("everybody who can reach that address can read the run: there is no password")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
