"""An S3 server at a distance: on loopback, behind a relay that delays every request and counts them."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from typing import Self
from urllib.request import urlopen

import boto3
import psutil

from benchmarks.machines import BUCKET, CREDENTIALS

METHODS = (b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE ")
COUNTED = b"/counted "  # the relay's own answer: what it has counted since it was asked last
STARTING = 60.0  # seconds
CHUNK = 2**18  # bytes


class Distant:
    """The server and the relay, each a process of its own."""

    def __init__(self, seconds: float) -> None:
        """`seconds` are added to every request."""
        self.port, server = free_port(), free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server)]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.relay = get_context("spawn").Process(target=relay, args=(self.port, server, seconds), daemon=True)
        self.relay.start()
        for port in (server, self.port):
            wait_for(port)
        keys = {"aws_access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": "b"}
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server}", region_name="us-east-1", **keys)
        client.create_bucket(Bucket=BUCKET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.relay.terminate()
        self.server.terminate()
        self.server.wait()

    def uri(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def counted(self) -> Counter[str]:
        """The requests since the last call, by method and the object's file name."""
        with urlopen(f"http://127.0.0.1:{self.port}/counted") as answer:
            return Counter(json.load(answer))

    @property
    def seconds(self) -> float:
        """Of a core that the server and the relay have taken so far."""
        times = [psutil.Process(pid).cpu_times() for pid in (self.server.pid, self.relay.pid)]
        return sum(one.user + one.system for one in times)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    until = time.monotonic() + STARTING
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")


def relay(port: int, upstream: int, seconds: float) -> None:
    """Pass connections on for ever, what the client sends `seconds` later."""
    asyncio.run(relaying(port, upstream, seconds))


async def relaying(port: int, upstream: int, seconds: float) -> None:
    counted: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", upstream)
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(delayed(reader, there[1], writer, counted, seconds), passed(there[0], writer))
        for end in (writer, there[1]):
            end.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


async def delayed(
    reader: asyncio.StreamReader,
    there: asyncio.StreamWriter,
    back: asyncio.StreamWriter,
    counted: Counter[str],
    seconds: float,
) -> None:
    """Pass the client's requests on, each chunk `seconds` after it came."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                there.close()
                return
            there.write(data)
            await there.drain()

    writing = asyncio.create_task(write())
    while data := await reader.read(CHUNK):
        if data.startswith(METHODS):
            method, path, _ = data.split(b" ", 2)
            if path + b" " == COUNTED:
                body = json.dumps(counted).encode()
                counted.clear()
                back.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await back.drain()
                break
            name = path.partition(b"?")[0].rpartition(b"/")[2]
            counted[f"{method.decode()} {name.decode()}"] += 1
        waiting.put_nowait((time.monotonic() + seconds, data))
    waiting.put_nowait((0.0, b""))
    await writing


async def passed(reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    """Pass the server's answers on as they come."""
    while data := await reader.read(CHUNK):
        back.write(data)
        await back.drain()
    back.close()
