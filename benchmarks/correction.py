"""Spectrum correction on the generated corpus: unseen devices with and without it, 3 seeds each.

A generated corpus: what it says of real devices is nothing, but its devices differ as real ones do.
"""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import side_by_side
from features.generated import make_corpus
from orchestrator.config.loading import load
from orchestrator.config.trained import apply_settings
from orchestrator.stages.computed import compute
from orchestrator.stages.cuts import load_cuts
from orchestrator.stages.final_actor import Averaging, Final
from orchestrator.stages.rounds import WITHOUT_TEACHERS
from orchestrator.stages.search import student_task
from orchestrator.storage.store import Store
from orchestrator.training.metrics import summary
from orchestrator.training.task import decide

SEEDS = (0, 1, 2)
UNSEEN = ("s4", "s5", "s6")
WAYS = {
    "without": [],
    "correction": ["spectrum.correct=true"],
    "augmentation": ["copies.kinds=[spectrum]", "student.copies=true"],
    "responses (dir)": ["copies.kinds=[dir]", "student.copies=true"],
}


def one(root: str, way: str, seed: int) -> dict[str, float]:
    """Train a student without teachers; accuracy on the test split's seen and unseen devices."""
    schedule = ["student.recipe.cycle_ends=[2, 6, 14]", "student.average=[6, 14]"]
    config = load("demo", [f"corpus.root={root}/corpus", *schedule, *WAYS[way]])
    store = Store(Path(root) / f"storage-{way}-{seed}")
    data = load_cuts(config, compute(config, store, parallel=False), store)[0]
    student = apply_settings(config.student, WITHOUT_TEACHERS)
    task = replace(student_task(config, student), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        settings = Averaging.of(config, student)
        outcome = Final("plain", task, settings, Store(folder), Path(folder), way).run(data, export=False)
    decided = decide(outcome.predictions["plain"], config.decision, config.corpus.taxonomy)
    unseen = np.isin(data.test.devices, UNSEEN)
    return {
        name: summary(data.test.scene[rows], decided[rows])["accuracy"]
        for name, rows in (("seen", ~unseen), ("unseen", unseen))
    }


def main(_arguments: list[str]) -> None:
    size: Any = load("demo").corpus.generate
    with tempfile.TemporaryDirectory() as root:
        make_corpus(Path(root) / "corpus", size, 0)
        rows = side_by_side(one, {(way, seed): (root, way, seed) for seed in SEEDS for way in WAYS})
    print("demo's generated corpus (says nothing of real recordings), plain student, 14 epochs, macro accuracy")
    for way in WAYS:
        for name in ("seen", "unseen"):
            values = [rows[way, seed][name] for seed in SEEDS]
            listed = ", ".join(f"{value:.3f}" for value in values)
            print(f"{way:<16}{name:<8}mean {statistics.mean(values):.3f}  ({listed})")
