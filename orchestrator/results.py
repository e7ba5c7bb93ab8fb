"""results.json: the numbers of a run in one stable shape, documented in docs/results.md."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from features.precompute import Manifest
from models.fit import Predictions
from orchestrator.artifacts import read_json
from orchestrator.config import Experiment
from orchestrator.evaluate import full_report
from orchestrator.stages import Data
from orchestrator.stages.search import Search, student_task
from orchestrator.training import decide

SCHEMA = 1


def collect(
    config: Experiment,
    data: Data,
    manifest: Manifest,
    search: Search,
    final: Path,
    seconds: dict[str, float],
    artifacts: dict[str, str],
) -> dict[str, Any]:
    """Everything scripts may rely on. Paths are relative to the run folder, artifacts to the storage."""
    taxonomy = config.corpus.taxonomy
    task = student_task(config, config.student)
    reports = {}
    table = pq.read_table(final / "predictions.parquet")
    names = table["model"].to_pylist()
    for name in dict.fromkeys(names):
        rows = table.filter(np.array([other == name for other in names]))
        scene, group = (np.stack(rows[column].to_numpy()) for column in ("scene", "group"))
        predictions = Predictions(torch.from_numpy(scene), torch.from_numpy(group))
        labels = rows["label"].to_numpy()
        reports[name] = full_report(labels, decide(predictions, task), taxonomy.scenes, rows["device"].to_pylist())
    export = read_json(final / "export.json")
    best = next(trial for trial in search.trials() if trial["trial"] == search.best)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "schema": SCHEMA,
        "name": config.name,
        "seed": config.seed,
        "decision": config.decision,
        "select_by": config.select_by,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "corpus": {
            "root": str(config.corpus.root),
            "generated": config.corpus.generate is not None,
            "data_hash": manifest.data_hash,
            "clips": {name: split.recordings for name, split in splits.items()},
            "copies": list(config.copies.kinds),
            "quarantine": data.quarantine,
            "notes": data.notes,
        },
        "scenes": list(taxonomy.scenes),
        "groups": {name: list(scenes) for name, scenes in config.corpus.groups.items()},
        "models": {
            "student": {"torch": reports["distilled"], "onnx": reports["onnx"], "tflite": reports["tflite"]},
            "plain": reports["plain"],
            "ensemble": reports["ensemble"],
            "teachers": {
                name.removeprefix("teacher "): report for name, report in reports.items() if name.startswith("teacher ")
            },
        },
        "complexity": {
            **export["complexity"],
            "file_bytes": export["file_bytes"],
            "input_shape": export["input_shape"],
        },
        "export": {
            "largest_difference_from_torch": export["largest_difference_from_torch"],
            "seconds_per_clip": export["seconds_per_clip"],
        },
        "averages": read_json(final / "averages.json"),
        "best_trial": {
            "name": search.best,
            "settings": search.settings,
            "validation": {"accuracy": best["accuracy"], "log_loss": best["log_loss"]},
        },
        "seconds": seconds,
        "paths": {
            "tflite": "models/student.tflite",
            "onnx": "models/student.onnx",
            "safetensors": "models/student.safetensors",
            "trials": "trials.parquet",
            "metrics": "metrics.jsonl",
            "report": "report/index.html",
        },
        "artifacts": artifacts,
    }
