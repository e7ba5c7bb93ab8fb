"""A headless Chromium, driven over its DevTools protocol: what a reader of a page sees and does."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
PATIENCE = 120.0  # seconds until a page must show what is waited for


class Browser:
    """One page. Its console's errors, and what its policy forbade, are in `complaints`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.loop, self.socket, self.number = loop, socket, 0
        self.complaints: list[str] = []

    @classmethod
    async def connect(cls, session: aiohttp.ClientSession, port: int) -> Self:
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = [target for target in await answer.json() if target["type"] == "page"]
        socket = await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        return cls(asyncio.get_running_loop(), socket)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        return self.loop.run_until_complete(self.ask(method, parameters))

    async def ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=PATIENCE)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.note(message)

    def note(self, event: dict[str, Any]) -> None:
        if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.complaints.append(event["params"]["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["params"]["exceptionDetails"]))

    def open(self, url: str, width: int = 1400, dark: bool = False) -> None:
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page, a promise's when it is kept."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints}"
            time.sleep(0.05)
        return value

    def texts(self, selector: str) -> list[str]:
        """What the elements show, each as one line."""
        shown = "(e.innerText ?? e.textContent).trim().replace(/\\s+/g, ' ')"
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => {shown})")

    def click(self, selector: str) -> None:
        event = "new MouseEvent('click', {bubbles: true})"  # what is SVG has no click()
        self.js(f"document.querySelector({json.dumps(selector)}).dispatchEvent({event})")

    def screenshot(self, file: Path) -> None:
        """The whole page as a picture."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))


class NoBrowser(RuntimeError):
    """There is no Chromium on this machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for the block. Raises NoBrowser."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise NoBrowser
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
        try:
            port = int(once_written(Path(profile) / "DevToolsActivePort").split()[0])
            with asyncio.Runner() as runner:
                session = runner.run(new_session())
                try:
                    yield runner.run(Browser.connect(session, port))
                finally:
                    runner.run(session.close())
        finally:
            process.terminate()
            process.wait()


async def new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


def once_written(file: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and "\n" in file.read_text()):
        assert time.monotonic() < deadline, "chromium did not start"
        time.sleep(0.05)
    return file.read_text()
