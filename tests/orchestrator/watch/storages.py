"""Storages as a driver leaves them while it runs, made up for the tests of what watches them."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CYCLE_ENDS = (2, 6, 14, 30)
RUN = "demo-c274424e"


def write_run(root: Path, *, age: float = 0.0, generated: bool = False, **status: Any) -> Path:
    """RUN's folder: a running driver's whose search has begun, unless `status` says otherwise."""
    now = datetime.now(UTC) - timedelta(seconds=age)
    known = {
        "schema": 1,
        "name": "demo",
        "run": RUN,
        "host": "vm",
        "state": "running",
        "started": (now - timedelta(seconds=754)).isoformat(timespec="seconds"),
        "updated": now.isoformat(timespec="seconds"),
        "message": None,
        "select_by": "log_loss",
        "generated": generated,
        "best": None,
        "stages": [
            stage("features", "finished", 40, 20, 20, "2,310 clips, 2 quarantined"),
            stage("teachers", "reused", 0, 2, 2, "2 teachers", ["artifacts/teacher/aaaa"]),
            stage("labels", "finished", 12, 1848, 1848),
            stage("search", "running", 702, 9, 16, "5 stopped, 3 running", ["work/search/bbbb"]),
            stage("final", "waiting"),
        ],
    }
    run = root / RUN
    run.mkdir(parents=True, exist_ok=True)
    (run / "status.json").write_text(json.dumps(known | status))
    return run


def stage(name: str, state: str, seconds: float = 0, done: float = 0, total: float = 0, detail="", folders=()) -> dict:
    return locals() | {"folders": list(folders)}


def write_trial(folder: Path, trial: str, rows: int = 0, quality: float | None = 0.5, **record: Any) -> Path:
    """A trial's folder below a stage's; its accuracy goes towards `quality`, and its log loss is 2.4 - 2 x accuracy.

    Without a quality there is no validation.
    """
    known = {
        "stage": "search",
        "trial": trial,
        "number": 0,
        "state": "running",
        "settings": {},
        "failure": None,
        "epochs": CYCLE_ENDS[-1],
    }
    path = folder / "trials" / trial
    path.mkdir(parents=True, exist_ok=True)
    (path / "trial.json").write_text(json.dumps(known | record))
    if rows:
        (path / "rows.jsonl").write_text(
            "".join(json.dumps(row(epoch, quality)) + "\n" for epoch in range(1, rows + 1))
        )
    return path


def row(epoch: int, quality: float | None) -> dict[str, Any]:
    start = max((end for end in (0, *CYCLE_ENDS) if end < epoch), default=0)
    end = min((end for end in CYCLE_ENDS if end >= epoch), default=CYCLE_ENDS[-1])
    phase = (epoch - start) / (end - start)
    accuracy = None if quality is None else quality * (1 - math.exp(-epoch / 6) - 0.05 * math.sin(math.pi * phase))
    return {
        "epoch": epoch,
        "loss": 2.2 * math.exp(-epoch / 12) + 0.4,
        "learning_rate": 0.01 * (1 + math.cos(math.pi * phase)) / 2,
        "accuracy": accuracy,
        "log_loss": None if accuracy is None else 2.4 - 2 * accuracy,
        "cycle_end": epoch in CYCLE_ENDS,
        "clips_per_second": 412.5,
        "seconds": 4.5 * epoch,
    }


def settings_of(number: int) -> dict[str, Any]:
    return {
        "recipe.temperature": round(1 + (number * 0.77) % 4, 3),
        "recipe.learning_rate": round(10 ** (-3 + (number * 0.37) % 1.6), 5),
        "recipe.mixup": round((number * 0.29) % 0.8, 3),
        "student.width": (16, 24, 32)[number % 3],
        "recipe.labels": ("stored", "online")[number % 2],
    }


def write_search(root: Path, trials: int = 16, work: str = "work/search/bbbb") -> None:
    """A search in the middle: some finished, most stopped, some running, one failed."""
    for number in range(trials):
        settings = settings_of(number)
        quality = 0.45 + 0.2 * math.sin(2.1 * number) * (settings["recipe.temperature"] / 5)
        name = f"student-{number:02d}-T{settings['recipe.temperature']:.1f}-mix{settings['recipe.mixup']:.2f}"
        state, rows = ("stopped", (2, 6, 14)[number % 3]) if number % 4 else ("finished", 30)
        if number >= trials - 3:
            state, rows = "running", 3 + number % 5
        failure = "Diverged: the loss was not finite in epoch 5" if number == 5 else None
        path = write_trial(
            root / work,
            name,
            4 if failure else rows,
            quality,
            number=number,
            state="failed" if failure else state,
            failure=failure,
            settings=settings,
        )
        if failure:
            (path / "failure.txt").write_text(f"Traceback (most recent call last):\n  ...\n{failure}\n")


def write_teachers(root: Path) -> None:
    for number, name in enumerate(("cnn-a", "cnn-b")):
        write_trial(
            root / "artifacts" / "teacher" / "aaaa",
            f"teacher-{name}",
            30,
            0.7 + 0.04 * number,
            stage="teachers",
            number=number,
            state="finished",
            settings={"teacher": name},
        )
