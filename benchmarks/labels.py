"""Soft labels stored against online: what each costs and what student results, from a finished run's teachers.

Judged on the validation split, where such choices belong.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.processes import side_by_side
from orchestrator.config.trained import OnlineSettings, StoredSettings, apply_settings
from orchestrator.finished.reproduce import load_run
from orchestrator.stages.final_actor import Averaging, Final
from orchestrator.stages.rounds import WITHOUT_TEACHERS
from orchestrator.stages.search import student_task
from orchestrator.stages.students import best_student
from orchestrator.storage.runs import RESULTS, locate
from orchestrator.storage.store import Store
from orchestrator.training.best import is_measured

WAYS = ("none", "stored", "online")


def one(run: str, way: str) -> dict[str, float]:
    """Train the run's best recipe with labels of one kind; metrics on validation and seconds of training."""
    store, folder = locate(run, RESULTS)
    config, _, search = load_run(store, folder)
    student = best_student(config, search)
    if way == "none":
        student = apply_settings(student, WITHOUT_TEACHERS)
    labels = OnlineSettings() if way == "online" else StoredSettings()
    asking = config.model_copy(update={"student": config.student.model_copy(update={"labels": labels})})
    _, (data, *_), _ = load_run(store, folder, asking)
    task = student_task(config, student)
    with tempfile.TemporaryDirectory() as temporary:
        settings = Averaging.of(config, student)
        final = Final(way, task, settings, Store(temporary), Path(temporary), run)
        outcome = final.run(data, export=False)
        seconds = final.progress()["seconds"]
    metrics = outcome.averaged.fp16
    assert is_measured(metrics)
    return {"accuracy": metrics["accuracy"], "log_loss": metrics["log_loss"], "seconds": seconds}


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit("give the folder of a finished run")
    rows = side_by_side(one, {way: (arguments[0], way) for way in WAYS})
    print(f"{arguments[0]}: the best recipe, seed 0, on validation")
    for way, row in rows.items():
        ratio = row["seconds"] / rows["none"]["seconds"]
        print(
            f"labels {way:<8}accuracy {row['accuracy']:.4f}   log loss {row['log_loss']:.4f}   "
            f"{row['seconds']:7.1f} s   {ratio:.2f} x no teachers"
        )
