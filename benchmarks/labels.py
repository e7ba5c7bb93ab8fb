"""Soft labels stored against online: what each costs and what student results, from a finished run's teachers.

Judged on the validation split, where such choices belong.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.processes import side_by_side
from orchestrator.artifacts import read_lines
from orchestrator.config import apply_settings
from orchestrator.reproduce import open_run
from orchestrator.stages.final import WITHOUT_TEACHERS, best_student
from orchestrator.stages.final_actor import METRICS, Final, Settings
from orchestrator.stages.search import student_task

WAYS = ("none", "stored", "online")


def one(run: str, way: str) -> dict[str, float]:
    """Train the run's best recipe with labels of one kind; metrics on validation and seconds of training."""
    config, _, search = open_run(Path(run))
    student = best_student(config, search)
    if way == "none":
        student = apply_settings(student, WITHOUT_TEACHERS)
    labels = "online" if way == "online" else "stored"
    asking = config.model_copy(update={"student": config.student.model_copy(update={"labels": labels})})
    _, data, _ = open_run(Path(run), asking)
    task = replace(student_task(config, student), labels=labels)
    with tempfile.TemporaryDirectory() as folder:
        final = Final(way, task, Settings(student.average, None, config.select_by, (0,)), Path(folder))
        outcome = final.run(data, export=False)
        seconds = read_lines(Path(folder) / METRICS)[-1]["seconds"]
    return {**outcome.averaged.fp16, "seconds": seconds}


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
