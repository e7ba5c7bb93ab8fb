"""`stillhouse watch`: the state of a run, and a page that shows it, over HTTP."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Self

from aiohttp import web

from orchestrator.errors import UserError
from orchestrator.storage.store import Store
from orchestrator.watch.replies import WORTH_PACKING, Reply, is_local, is_loopback, news, pack, page
from orchestrator.watch.state import Watcher

log = logging.getLogger("stillhouse")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data:",  # the icon
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
GUARDS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "stillhouse",
    "Vary": "Accept-Encoding",
}
"""Headers of every reply."""
IDLE = 30.0  # seconds without a request, or without reading what was sent, after which a connection is closed
WAITING = 1024  # connections that wait to be accepted
CHUNK = 2**16  # bytes that a slow reader keeps in memory


class Server:
    """Listens at once, and answers once `serve_forever` is called. Raises UserError where it cannot listen."""

    def __init__(self, watcher: Watcher, host: str, port: int) -> None:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.socket = socket.create_server(address[:2], family=family, backlog=WAITING)
        except OSError as error:
            # create_server writes the address into the reason; errors of a name's look-up have no number of the system.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
            raise UserError(
                f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port"
            ) from None
        self.watcher = watcher
        self.address, self.port = self.socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        self.loop = asyncio.new_event_loop()
        self.stopped = asyncio.Event()
        self.reading = ThreadPoolExecutor(1, "storage")  # one at a time: what many wait for is read once

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.reading.shutdown(wait=False, cancel_futures=True)

    def serve_forever(self) -> None:
        """Answer until `stop` is called."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.serve())

    def stop(self) -> None:
        """End `serve_forever`, from any thread."""
        self.loop.call_soon_threadsafe(self.stopped.set)

    async def serve(self) -> None:
        handler = web.Server(self.handle, access_log=None, keepalive_timeout=IDLE)
        runner = web.ServerRunner(handler, shutdown_timeout=0)
        await runner.setup()
        try:
            await web.SockSite(runner, self.socket, backlog=WAITING).start()
            self.reading.submit(self.watcher.answer)  # the first answer imports what computes importances: seconds
            await self.stopped.wait()
        finally:
            await runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            reply = await self.reply(request)
        except Exception:
            log.exception("a request of %s failed", request.remote)
            reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR, b"this is a bug: see the log of stillhouse watch\n")
        return await send(request, reply)

    async def reply(self, request: web.BaseRequest) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, b"nothing can be changed here\n")
        if is_loopback(self.address) and not is_local(request.headers.get("Host", "")):
            return Reply(HTTPStatus.MISDIRECTED_REQUEST, b"this page answers to localhost alone\n")
        path, _, query = request.raw_path.partition("?")
        return page(path) or await self.loop.run_in_executor(self.reading, news, self.watcher, path, query)


async def send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send a reply: 304 where the browser has it already, packed by gzip where that is worth it."""
    response = web.StreamResponse(status=reply.status, headers=GUARDS)
    response.headers["Content-Type"] = f"{reply.kind}; charset=utf-8"
    body = reply.body
    if reply.tag:
        response.headers["ETag"] = f'"{reply.tag}"'
    if reply.tag and response.headers["ETag"] in request.headers.get("If-None-Match", ""):
        response.set_status(HTTPStatus.NOT_MODIFIED)
        body = b""
    elif len(body) > WORTH_PACKING and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.headers["Content-Encoding"] = "gzip"
        body = pack(body)
    response.content_length = len(body)
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            await write(response, body)
    except (ConnectionError, TimeoutError):  # the browser is gone, or reads nothing any more
        if request.transport is not None:
            reset(request.transport)
    return response


def reset(connection: asyncio.Transport) -> None:
    """Close a connection and drop what is not sent yet, which the system would keep for many minutes."""
    at_once = struct.pack("ii", 1, 0)
    connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    connection.abort()


async def write(response: web.StreamResponse, body: bytes) -> None:
    """Send a body. Raises TimeoutError where the other side reads nothing for IDLE seconds."""
    rest = memoryview(body)
    while rest:
        async with asyncio.timeout(IDLE):
            await response.write(rest[:CHUNK])
        rest = rest[CHUNK:]


def serve(store: Store, run: Path, host: str = "127.0.0.1", port: int = 8266, *, echo: Callable[[str], object]) -> None:
    """Show a run, live or finished, until Ctrl-C."""
    with Server(Watcher(store, run), host, port) as server:
        echo(f"{run.name} is shown at {server.url} until Ctrl-C")
        if not is_loopback(server.address):
            echo("everybody who can reach that address can read the run: there is no password")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
