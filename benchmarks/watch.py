"""The live page under load: 200 clients at once beside 320 slow ones, with an error log of 4 MB."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import psutil

from orchestrator.monitor.schema import RunStatus, StageReport
from orchestrator.storage.runs import STATUS
from orchestrator.storage.store import Store
from orchestrator.training.record import Training

CLIENTS, SLOW, LOG = 200, 320, 4 * 2**20
RUN, FAILED = "watch-1", "teacher-cnn"
KINDS = {"state": "/state.json", "curves.js": "/curves.js", "log": f"/log/teachers/{FAILED}"}
LIMIT = 60.0  # seconds after which a client gives up


def main(_arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        write_run(Store(home))
        command = [sys.executable, "-m", "orchestrator", "watch", f"{home}/{RUN}", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
            asyncio.run(load(url.rstrip("/"), psutil.Process(process.pid)))
            process.terminate()


def write_run(store: Store) -> None:
    """A run whose teacher has failed with an error text of 4 MB."""
    work = store.root / "work" / "teachers" / "1"
    teacher = Training("teachers", FAILED, 1, epochs=30)
    teacher.fail(store, work, "it failed", "a line of an error\n" * (LOG // 19))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    stage = StageReport(
        name="teachers", state="failed", seconds=1, done=0, total=1, detail="", folders=[store.name(work)]
    )
    status = RunStatus(
        schema=2,
        name="watch",
        run=RUN,
        select_by="log_loss",
        generated=True,
        host="here",
        state="failed",
        started=now,
        updated=now,
        message=None,
        best=None,
        outcome=None,
        stages=[stage],
    )
    (store.root / RUN).mkdir()
    status.write(store.root / RUN / STATUS)


async def load(url: str, server: psutil.Process) -> None:
    """Print what each kind of request meets, alone and beside slow clients."""
    for slow in (0, SLOW):
        async with AsyncExitStack() as connections:
            for number in range(slow):
                await connections.enter_async_context(slow_client(url, unread=number % 2 == 0))
            for path in KINDS.values():
                seconds, _ = await at_once(url + path, "gzip", clients=1)
                assert seconds, f"{path} is not served"
            for kind, path in KINDS.items():
                for encoding in ("gzip", "identity"):
                    seconds, failed = await at_once(url + path, encoding)
                    worst = f"{max(seconds):.2f} s" if seconds else "none"
                    print(
                        f"{slow} slow clients, {CLIENTS} x {kind} ({encoding}): the last answer after {worst},"
                        f" {failed} without one, server {server.memory_info().rss / 1e6:.0f} MB"
                    )


@asynccontextmanager
async def slow_client(url: str, *, unread: bool) -> AsyncIterator[None]:
    """A client that sends half a request, or a whole one for the log whose answer it never reads."""
    place = urlsplit(url)
    _, writer = await asyncio.open_connection(place.hostname, place.port, limit=1)
    writer.write(f"GET {KINDS['log']} HTTP/1.1\r\nHost: localhost\r\n".encode() + (b"\r\n" if unread else b""))
    yield
    writer.close()


async def at_once(url: str, encoding: str, clients: int = CLIENTS) -> tuple[list[float], int]:
    """Seconds until each client has its whole answer, and how many got none."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:

        async def one() -> float:
            started = time.monotonic()
            async with session.get(url, headers={"Accept-Encoding": encoding}) as answer:
                answer.raise_for_status()
                await answer.read()
            return time.monotonic() - started

        results = await asyncio.gather(*(one() for _ in range(clients)), return_exceptions=True)
    seconds = [result for result in results if isinstance(result, float)]
    return seconds, len(results) - len(seconds)
