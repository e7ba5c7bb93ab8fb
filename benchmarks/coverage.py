"""How often the 95 % interval of macro accuracy holds the truth, by clips a class: simulated, beside Agresti-Coull."""

import math

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.coverage import interval

CLASSES, RUNS = 10, 4000
CLIPS = (1, 2, 4, 8, 27, 80)
ACCURACIES = (0.5, 0.7, 0.9)
SPREAD = 0.2  # classes differ by so much from the mean


def agresti_coull(hits: NDArray[np.int_], clips: int) -> tuple[float, float]:
    """As the report had it: two hits and two misses more in each class, around the plain mean."""
    share = (hits + 2) / (clips + 4)
    half = 1.96 * math.sqrt((share * (1 - share) / (clips + 4)).sum()) / len(hits)
    mean = float(hits.mean() / clips)
    return mean - half, mean + half


def main(_arguments: list[str]) -> None:
    generator = np.random.default_rng(0)
    print(f"{CLASSES} classes, {RUNS} test sets each: coverage, and width in points; ours, and Agresti-Coull by class")
    for clips in CLIPS:
        cells = []
        for accuracy in ACCURACIES:
            found = {"ours": [0, 0.0], "before": [0, 0.0]}
            for _ in range(RUNS):
                truth = np.clip(accuracy + generator.uniform(-SPREAD, SPREAD, CLASSES), 0.02, 0.99)
                hits = generator.binomial(clips, truth)
                confusion = np.diag(hits)
                confusion[:, 0] += clips - hits  # any other decision
                confusion[0, 0] = hits[0]
                confusion[0, 1] = clips - hits[0]
                for name, (low, high) in {
                    "ours": interval(confusion.tolist()),
                    "before": agresti_coull(hits, clips),
                }.items():
                    found[name][0] += low <= truth.mean() <= high
                    found[name][1] += high - low
            shown = (f"{name} {count / RUNS:.3f} ({100 * width / RUNS:.0f})" for name, (count, width) in found.items())
            cells.append(f"{accuracy:.0%}: {', '.join(shown)}")
        print(f"{clips:>3} clips a class:  {'   '.join(cells)}")
