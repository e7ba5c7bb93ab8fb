"""results.json: the numbers of a run in one stable shape, documented in docs/results.md."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from features.generated import generated_from
from features.precompute import Manifest
from models.prediction import Predictions
from orchestrator.config.experiment import Experiment
from orchestrator.stages.context import Data
from orchestrator.stages.search import Search
from orchestrator.storage.files import read_json
from orchestrator.training.metrics import full_report
from orchestrator.training.task import decide

SCHEMA = 1


def collect(
    config: Experiment,
    data: Data,
    manifest: Manifest,
    search: Search | None,
    final: Path,
    seconds: dict[str, float],
    artifacts: dict[str, str],
) -> dict[str, Any]:
    """Everything scripts may rely on. Paths are relative to the run folder, artifacts to the storage."""
    export = read_json(final / "export.json")
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    files = {"tflite": "student.tflite", "onnx": "student.onnx", "safetensors": "student.safetensors"}
    if "tflite_combined" in export["file_bytes"]:
        files["tflite_combined"] = "student-combined.tflite"
    return {
        "schema": SCHEMA,
        "name": config.name,
        "seed": config.seed,
        "decision": config.decision,
        "select_by": config.select_by,
        "refit_of": config.refit_of,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "corpus": {
            "root": str(config.corpus.root),
            "generated": generated_from(config.corpus.root) is not None,
            "data_hash": manifest.data_hash,
            "fit_on": list(config.corpus.fit_on),
            "clips": {name: split.recordings for name, split in splits.items()},
            "copies": list(config.kinds_of_copies),
            "quarantine": data.quarantine,
            "notes": data.notes,
        },
        "scenes": list(config.corpus.taxonomy.scenes),
        "groups": {name: list(scenes) for name, scenes in (config.corpus.groups or {}).items()},
        "models": models(config, final) if len(data.test) else None,
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
        "best_trial": None if search is None else best_trial(search),
        "seconds": seconds,
        "paths": {
            **{name: f"models/{file}" for name, file in files.items()},
            **({} if search is None else {"trials": "trials.parquet"}),
            "metrics": "metrics.jsonl",
            "report": "report/index.html",
        },
        "artifacts": artifacts,
    }


def models(config: Experiment, final: Path) -> dict[str, Any]:
    """A report of every model that predicted the test split, read as the experiment decides."""
    taxonomy = config.corpus.taxonomy
    reports = {}
    table = pq.read_table(final / "predictions.parquet")
    names = table["model"].to_pylist()
    for name in dict.fromkeys(names):
        rows = table.filter(np.array([other == name for other in names]))
        scene, group = (torch.from_numpy(np.stack(rows[column].to_numpy())) for column in ("scene", "group"))
        decided = decide(Predictions(scene, group), config.decision, taxonomy)
        devices = rows["device"].to_pylist()
        reports[name] = full_report(rows["label"].to_numpy(), decided, taxonomy.scenes, devices)
    teachers = {name: report for name, report in reports.items() if name.startswith("teacher ")}
    return {
        "student": {"torch": reports["distilled"], **{name: reports[name] for name in config.export}},
        "plain": reports.get("plain"),
        "ensemble": reports.get("ensemble"),
        "teachers": {name.removeprefix("teacher "): report for name, report in teachers.items()},
    }


def best_trial(search: Search) -> dict[str, Any]:
    best = next(trial for trial in search.trials() if trial["trial"] == search.best)
    validation = {"accuracy": best["accuracy"], "log_loss": best["log_loss"]}
    return {"name": search.best, "settings": search.settings, "validation": validation}
