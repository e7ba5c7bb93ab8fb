"""What the server of the live page answers, for each requested name."""

import gzip
import ipaddress
import json
from functools import cache, lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from orchestrator.report.charts import PANELS
from orchestrator.report.colours import FAINT, PALETTE, STATE_COLOURS
from orchestrator.report.trials import SAMPLE
from orchestrator.training.rows import TRAINING_STAGES
from orchestrator.watch.state import Watcher

HERE = Path(__file__).parent
PAGES = {
    "/": (HERE / "page.html", "text/html"),
    "/style.css": (HERE.parent / "report" / "style.css", "text/css"),
    **{f"/{file.name}": (file, "text/css") for file in HERE.glob("*.css")},
    **{f"/{file.name}": (file, "text/javascript") for file in HERE.glob("*.js")},
}
WORTH_PACKING = 1024  # bytes


class Reply(NamedTuple):
    """What is answered to a request, before it is packed."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = "text/plain"
    tag: str = ""


def page(path: str) -> Reply | None:
    """A part of the page, which is the same for every run. A name is looked up in a table; it never becomes a path."""
    if path == "/names.js":
        return Reply(HTTPStatus.OK, names_js(), "text/javascript")
    if path in PAGES:
        file, kind = PAGES[path]
        return Reply(HTTPStatus.OK, file.read_bytes(), kind)
    return None


def news(watcher: Watcher, path: str, query: str = "") -> Reply:
    """What is read from the run's storage: its state, or the error text of one of its trainings."""
    try:
        if path == "/state.json":
            state = watcher.answer(query.removeprefix("since="))
            return Reply(HTTPStatus.OK, state.body, "application/json", state.tag)
        text = watcher.log(*names) if (names := names_in(path)) else None
    except OSError as error:
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"the storage cannot be read: {error}\n".encode())
    return Reply(HTTPStatus.NOT_FOUND, b"nothing here\n") if text is None else Reply(HTTPStatus.OK, text)


def names_in(path: str) -> tuple[str, str] | None:
    """(stage, trial) of /log/STAGE/TRIAL."""
    parts = path.split("/")
    return (unquote(parts[2]), unquote(parts[3])) if len(parts) == 4 and parts[:2] == ["", "log"] else None


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
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
        "SAMPLE": SAMPLE,
    }
    return "".join(f"export const {name} = {json.dumps(value)};\n" for name, value in names.items()).encode()


@lru_cache(maxsize=16)  # the parts of the page, the latest states and logs
def pack(body: bytes) -> bytes:
    """The body, compressed."""
    return gzip.compress(body, compresslevel=4)
