"""Sources of soft labels and calibration side by side: one experiment's student, without a search, several seeds.

    python -m benchmarks labels EXPERIMENT STORAGE [KEY=VALUE ...]

Judged on validation, where such choices belong; on the test split too where the corpus is generated, since nothing is
chosen by that. All runs share features and teachers in STORAGE.
"""

import subprocess
import sys
from pathlib import Path
from statistics import fmean

from orchestrator.report.schema import Results
from orchestrator.storage.files import read_json
from orchestrator.storage.runs import RESULTS

SEEDS = 3
COMMON = ["search=null", "plain=false", f"final.seeds={SEEDS}", "validation.folds=1"]
CALIBRATED = "calibrate_teachers=true"
WAYS = {
    "no teachers": ["student.recipe.soft_weight=0"],
    "stored": [],
    "stored, teachers calibrated": [CALIBRATED],
    "crossfit": ["student.labels=crossfit"],
    "crossfit, teachers calibrated": ["student.labels=crossfit", CALIBRATED],
    "online": ["student.labels=online"],
    "online, teachers calibrated": ["student.labels=online", CALIBRATED],
    "stored, student calibrated": ["student.calibrate=true"],
    "stored, moving average 0.98": ["student.recipe.moving_average=0.98"],
    "stored, soft weight 0.95": ["student.recipe.soft_weight=0.95"],
    "the same, teachers calibrated": ["student.recipe.soft_weight=0.95", CALIBRATED],
}


def one(experiment: str, storage: str, settings: list[str]) -> Path:
    """The folder of a run, which a second call finds finished."""
    given = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "orchestrator", "run", experiment, "--storage", storage, *given]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return Path(done.stdout.splitlines()[-1])


def row(run: Path) -> str:
    """Means over seeds, each student as it would be exported, its weights rounded."""
    results = Results.read(run / RESULTS)
    folder = run.parent / results.artifacts["final"]
    averages = read_json(folder / "averages.json").values()
    loss, accuracy = (fmean(one["fp16"][name] for one in averages) for name in ("log_loss", "accuracy"))
    text = f"{accuracy:.3f} / {loss:.3f}"
    if results.corpus.generated and results.models:
        parts = [part for seed in results.models.seeds if (part := seed.distilled or seed.plain)]
        text += f"   test {fmean(part.accuracy for part in parts):.3f} / {fmean(part.log_loss for part in parts):.3f}"
    kept = [one["kept"] for one in averages]
    return f"{text}   {results.seconds['final']:6.0f} s   {'; '.join(kept)}"


def main(arguments: list[str]) -> None:
    if len(arguments) < 2:
        sys.exit("give an experiment and a storage, and settings if any")
    experiment, storage, *settings = arguments
    print(
        f"{experiment}, {SEEDS} seeds: accuracy / log loss on validation, mean over seeds; seconds of the final stage"
    )
    for way, changes in WAYS.items():
        print(f"{way:<32}{row(one(experiment, storage, [*COMMON, *settings, *changes]))}", flush=True)
