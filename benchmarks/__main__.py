"""python -m benchmarks NAME ...: run benchmarks by name; without a name, list them."""

import importlib
import os
import platform
import sys
import time

from orchestrator.arithmetic import arithmetic, use_common
from orchestrator.versions import processor

NAMES = {
    "features": "clips a second: librosa loop, our single process, our Ray Data pipeline",
    "training": "fit against a bare torch loop over tensors in memory",
    "together": "[STUDENTS ...]: students that are trained as one against one after another",
    "memory": "private memory of concurrent trials that share one feature set",
    "growth": "[CLIPS ...]: time and memory of table, shards, map and an epoch, by the number of clips",
    "esc10_peer": "MFCC statistics and an SVM on ESC-10, fold 3",
    "distillation": "RUN: students with and without distillation, 3 seeds",
    "labels": "EXPERIMENT STORAGE: soft labels stored, online, cross-fitted, calibrated: what student results",
    "augmentation": "deltas and augmentation, as a share of the student's step",
    "chaos": "[FAULTS]: kill trials, actors, nodes, drivers, clusters, tear files, fill the disk; count what is lost",
    "torn": "[FILES]: tear files of a finished run, as a power cut does; count what the same command heals",
    "overhead": "wall time of 16 short trials against the sum of their training",
    "search": "TABLE: searches replayed on it; make RUN TABLE: recipes of RUN's space, trained to the end (hours)",
    "driver": "the driver's memory over 200 trivial trials",
    "crowd": "[AT_ONCE TRIALS]: the driver with 500 trials at once, 2,000 in all, that only take time on paper",
    "waiting": "[AT_ONCE TRIALS SECONDS]: the driver with 40 real Tune trials at once, 160 in all, that only sleep",
    "distance": "[PARTS]: a storage 40 ms away: requests, runs listed, a search published, what the driver waits for",
    "watch": "the live page: 200 clients at once beside 320 slow ones",
    "rounding": "[CPU ...]: whether emulated CPUs of other makers give the same bits",
    "coverage": "how often the interval of an accuracy holds the truth, by clips a class",
    "thousand": "a thousand trials to look at: live page and report in Chromium",
    "near_copies": "near copies of real recordings: found, and strangers taken for one",
    "correction": "unseen devices of the generated corpus with and without spectrum correction, 3 seeds",
}


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in NAMES:
        for name, about in NAMES.items():
            print(f"{name:<14}{about}")
        sys.exit(0 if not arguments else 2)
    use_common()
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}")
    importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])


def machine() -> str:
    """Processor, cores and Python: what every figure has to be read with."""
    cpu = f"{processor() or platform.machine()}, {os.cpu_count()} cores, arithmetic {arithmetic()}"
    return f"{cpu}, Python {platform.python_version()}"


if __name__ == "__main__":
    main(sys.argv[1:])
