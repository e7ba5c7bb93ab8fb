"""What Tune may lose and a run must not, on a real Ray: a trial's process that is killed, and a Ctrl-C."""

import io
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import psutil
import pytest
from rich.console import Console

from orchestrator.monitor.view import View
from orchestrator.stages import teachers, tuning
from orchestrator.stages.context import Context
from orchestrator.stages.recorder import Recorder
from orchestrator.stages.trainable import Plan
from orchestrator.training.record import TRIALS, rows_of

TEACHERS = "{one: {model: {width: 2}, recipe: {cycle_ends: [1, 40], crop_frames: 32}, ensemble: [1, 40]}}"


@pytest.fixture
def config(small):
    return small(f"teachers={TEACHERS}")


def kill_when(sign, store, ended: threading.Event, killed: list[int]) -> None:
    """Kill the trial's process, once, as soon as a file matches: below the raylets that this process has started."""
    while not ended.is_set() and not killed:
        if list(store.root.glob(sign)):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    title = " ".join(process.cmdline())
                    if title.startswith("ray::") and ("Training" in title or "teacher-one" in title):
                        process.kill()
                        killed.append(process.pid)
        time.sleep(0.01)


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_tune_gives_up_for_a_lost_process_goes_on(config, store, data, monkeypatch):
    monkeypatch.setattr(tuning, "PROCESSES", 0)  # Tune gives up at the first loss
    experiments: list[str] = []

    def counted(plan: Plan, *rest: Any, **options: Any) -> None:
        experiments.append(plan.run)
        tuning.run_trials(plan, *rest, **options)

    monkeypatch.setattr(teachers, "run_trials", counted)
    ended, killed = threading.Event(), list[int]()
    sign = f"work/teachers/*/{TRIALS}/teacher-one/latest.safetensors"
    thread = threading.Thread(target=kill_when, args=(sign, store, ended, killed))
    thread.start()
    try:
        found = teachers.run(Context(config, store, View(Console(file=io.StringIO())), "run"), [data])
    finally:
        ended.set()
        thread.join()
    assert len(killed) == 1 and len(experiments) == 2
    rows = rows_of(found[""]["one"] / TRIALS / "teacher-one")
    assert [row["epoch"] for row in rows] == list(range(1, 41))


@pytest.mark.usefixtures("ray_cluster")
def test_ctrl_c_at_the_moment_when_the_last_trial_ends_is_not_lost(small, store, data, monkeypatch):
    config = small("teachers={one: {model: {width: 2}, recipe: {cycle_ends: [1], crop_frames: 32}, ensemble: [1]}}")
    context = Context(config, store, View(Console(file=io.StringIO())), "run")
    complete = Recorder.on_trial_complete

    def then_interrupted(recorder: Recorder, *arguments: Any, **info: Any) -> None:
        complete(recorder, *arguments, **info)
        assert recorder.ended == recorder.total()
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_trial_complete", then_interrupted)
        with pytest.raises(KeyboardInterrupt):
            teachers.run(context, [data])
    assert signal.getsignal(signal.SIGINT) is before
    (rows,) = store.root.glob(f"work/teachers/*/{TRIALS}/teacher-one/rows.jsonl")
    ended = rows.read_bytes()
    found = teachers.run(context, [data])
    assert (found[""]["one"] / TRIALS / "teacher-one" / "rows.jsonl").read_bytes() == ended


def test_a_process_that_is_always_lost_ends_the_stage(store, monkeypatch):
    attempts, lines, fetched = list[int](), list[str](), list[object]()
    monkeypatch.setattr(tuning.log, "warning", lambda text, *parts: lines.append(text % parts))
    monkeypatch.setattr(tuning, "fetch", lambda *given: fetched.append(given))

    def lose() -> None:
        attempts.append(1)
        raise tuning.ProcessLost("student-01: its process was lost")

    with pytest.raises(tuning.ProcessLost, match="student-01: its process was lost"):
        tuning.until_ended(lose, store, store.root)
    assert len(attempts) == tuning.ATTEMPTS == 9
    assert lines == ["student-01: its process was lost"] * 8 and tuning.log.name == "stillhouse"
    assert fetched == [(store, store.root)] * 8
