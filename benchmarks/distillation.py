"""Students with and without distillation, 3 seeds each, from a finished run's recipe and soft labels.

Seed 0 is the run's own pair; the others repeat it with other initial weights and draws.
"""

import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.processes import side_by_side
from models.seeding import derive
from orchestrator.config.trained import apply_settings
from orchestrator.finished.reproduce import load_run
from orchestrator.stages.final_actor import Averaging, Final
from orchestrator.stages.rounds import WITHOUT_TEACHERS
from orchestrator.stages.search import student_task
from orchestrator.stages.students import best_student
from orchestrator.storage.files import read_json
from orchestrator.storage.runs import RESULTS, locate
from orchestrator.storage.store import Store
from orchestrator.training.metrics import summary
from orchestrator.training.task import decide

SEEDS = (1, 2)
WAYS = {"distilled": {}, "plain": WITHOUT_TEACHERS}


def one(run: str, way: str, seed: int) -> dict[str, float]:
    """Train one student to the end; its metrics on the test split, weights chosen on validation."""
    config, (data, *_), search = load_run(*locate(run, RESULTS))
    student = apply_settings(best_student(config, search), WAYS[way])
    task = replace(student_task(config, student), seed=derive(config.seed, "student", seed))
    with tempfile.TemporaryDirectory() as folder:
        settings = Averaging.of(config, student)
        outcome = Final(way, task, settings, Store(folder), Path(folder), run).run(data, export=False)
    found = summary(data.test.scene, decide(outcome.predictions[way], config.decision, config.corpus.taxonomy))
    return {"accuracy": found["accuracy"], "log_loss": found["log_loss"]}


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit("give the folder of a finished run")
    run = arguments[0]
    models = read_json(Path(run) / "results.json")["models"]
    if models is None or models["plain"] is None:
        sys.exit(f"{run} has no plain student to compare with")
    rows = {"distilled": [models["student"]["torch"]], "plain": [models["plain"]]}
    more = side_by_side(one, {(way, seed): (run, way, seed) for seed in SEEDS for way in WAYS})
    for (way, _), row in more.items():
        rows[way].append(row)
    print(f"{run}: test split, torch, seeds 0, {', '.join(map(str, SEEDS))}")
    for way, seeds in rows.items():
        for metric in ("accuracy", "log_loss"):
            values = [row[metric] for row in seeds]
            listed = ", ".join(f"{value:.4f}" for value in values)
            print(f"{way:<10}{metric:<10}mean {statistics.mean(values):.4f}  ({listed})")
