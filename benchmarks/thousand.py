"""A thousand trials of 510 epochs to look at: the live page and the report, in Chromium."""

import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks.browser import Browser, chromium
from orchestrator.monitor.schema import RunStatus, StageReport
from orchestrator.report.charts import Chart, Style, curves, plain
from orchestrator.report.trials import importances
from orchestrator.storage.files import write_json, write_lines
from orchestrator.storage.runs import STATUS
from orchestrator.training.record import FINISHED, ROWS, RUNNING, STOPPED, TRIAL, TRIALS, Training
from orchestrator.training.table import TrialRow

COUNT, EPOCHS, RUNNING_ONES = 1000, 510, 8
ENDS = (2, 6, 14, 30, 62, 126, 254, 510)
RUN, WORK = "thousand-1", "work/search/k"
REFRESHES = 5
SHOWN = "document.querySelector('#trials tbody tr') !== null && document.querySelector('#curves canvas') !== null"
GAPS = """window.gaps = []; let last = performance.now(); (function next() { const now = performance.now();
    window.gaps.push(now - last); last = now; requestAnimationFrame(next); })()"""


def main(_arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        root = Path(folder)
        trials = [write_trial(root, number) for number in range(1, COUNT + 1)]
        live_page(root, browser)
        report_parts(trials)


def training_of(number: int) -> Training:
    draw = random.Random(number)
    settings = {f"recipe.{name}": draw.random() for name in ("soft_weight", "scene_weight", "mixup_alpha", "noise")}
    state = RUNNING if number > COUNT - RUNNING_ONES else FINISHED if number % 4 == 0 else STOPPED
    return Training("search", f"student-{number:04d}", number, EPOCHS, {**settings}, state)


def rows_of(training: Training) -> list[dict[str, Any]]:
    draw = random.Random(training.number)
    quality, last = 0.4 + 0.3 * draw.random(), EPOCHS if training.state == FINISHED else draw.choice(ENDS[4:7])
    rows = []
    for epoch in range(1, last + 1):
        accuracy = quality * (1 - math.exp(-epoch / 60)) + draw.gauss(0, 0.01)
        measured = {"accuracy": accuracy, "log_loss": 2.4 - 2 * accuracy, "loss": 2.2 * math.exp(-epoch / 100)}
        pace = {"learning_rate": 0.01, "clips_per_second": 400.0, "seconds": 4.5 * epoch}
        rows.append({"epoch": epoch, **measured, "cycle_end": epoch in ENDS, **pace})
    return rows


def write_trial(root: Path, number: int) -> tuple[Training, list[dict[str, Any]]]:
    training = training_of(number)
    rows = rows_of(training)
    folder = root / WORK / TRIALS / training.trial
    folder.mkdir(parents=True)
    write_json(folder / TRIAL, asdict(training))
    write_lines(folder / ROWS, rows)
    return training, rows


def write_status(root: Path) -> None:
    """A driver's sign of life."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    stage = StageReport(
        name="search", state="running", seconds=1, done=COUNT - RUNNING_ONES, total=COUNT, detail="", folders=[WORK]
    )
    facts = {"name": "thousand", "run": RUN, "select_by": "log_loss", "generated": True, "host": "here"}
    times = {"state": "running", "started": now, "updated": now}
    nothing = {"message": None, "best": None, "outcome": None}
    status = RunStatus.model_validate({"schema": RunStatus.newest, **facts, **times, **nothing, "stages": [stage]})
    (root / RUN).mkdir(exist_ok=True)
    status.write(root / RUN / STATUS)


def live_page(root: Path, browser: Browser) -> None:
    """First answer, refreshes while eight train on, and what the browser holds."""
    write_status(root)
    command = [sys.executable, "-m", "orchestrator", "watch", f"{root}/{RUN}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        seconds, state = timed(lambda: answer(url))
        print(f"live page, {COUNT} trials of up to {EPOCHS} epochs: first answer {seconds:.1f} s, {len(state):,} bytes")
        seconds, _ = timed(lambda: (browser.open(url), browser.wait(SHOWN)))
        print(f"  readable after {seconds:.1f} s")
        browser.js(GAPS)
        sizes, tag = [], json.loads(state)["tag"]
        for _ in range(REFRESHES):
            train_on(root)
            write_status(root)
            time.sleep(3.0)
            news = answer(url, tag)
            sizes.append(len(news))
            tag = json.loads(news)["tag"]
        gaps = browser.js("window.gaps")
        browser.call("HeapProfiler.enable")
        browser.call("HeapProfiler.collectGarbage")
        heap, nodes = browser.js("[performance.memory.usedJSHeapSize, document.querySelectorAll('*').length]")
        memory = psutil.Process(server.pid).memory_info().rss
        print(f"  a refresh at most {max(sizes):,} bytes, longest gap between two pictures {max(gaps):.0f} ms")
        print(f"  {nodes:,} nodes, heap {heap / 1e6:.0f} MB, server {memory / 1e6:.0f} MB")
        server.terminate()


def answer(url: str, since: str = "") -> bytes:
    """state.json as it is sent, not packed."""
    with urlopen(Request(f"{url}state.json?since={since}")) as reply:
        return reply.read()


def train_on(root: Path) -> None:
    """Those that run come one epoch further."""
    for number in range(COUNT - RUNNING_ONES + 1, COUNT + 1):
        file = root / WORK / TRIALS / training_of(number).trial / ROWS
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        write_lines(file, [*rows, {**rows[-1], "epoch": rows[-1]["epoch"] + 1, "cycle_end": False}])


def report_parts(trials: list[tuple[Training, list[dict[str, Any]]]]) -> None:
    """What of the report grows with the trials: curves and importances."""
    styles = {training.trial: Style("#888888", training.state) for training, _ in trials}
    named: Any = {training.trial: rows for training, rows in trials}
    seconds, chart = timed(lambda: Chart(plain(curves(named, styles)), ""))
    print(f"report: curves made in {seconds:.1f} s, {len(json.dumps(chart.figure)):,} bytes")
    table = [row_of(training, rows[-1]) for training, rows in trials]
    seconds, _ = timed(lambda: importances(table, "log_loss"))
    print(f"  importances {seconds:.1f} s")


def row_of(training: Training, last: dict[str, Any]) -> TrialRow:
    return TrialRow(
        trial=training.trial,
        state=training.state,
        epochs=last["epoch"],
        accuracy=last["accuracy"],
        log_loss=last["log_loss"],
        seconds=last["seconds"],
        seed=0,
        cut="",
        wins=None,
        failure="",
        settings={name: value for name, value in training.settings.items() if isinstance(value, float)},
    )


def timed[T](action: Callable[[], T]) -> tuple[float, T]:
    started = time.monotonic()
    result = action()
    return time.monotonic() - started, result
