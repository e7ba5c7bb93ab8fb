"""A small finished run."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.storage.files import write_json, write_lines
from tests.orchestrator.report.sample_runs import make_results

REPORT = {"accuracy": 0.5, "log_loss": 1.25, "clips": 30, "per_class": {}, "per_device": {}, "confusion": []}
EPOCH = {"loss": 1.5, "learning_rate": 0.125, "cycle_end": True, "clips_per_second": 64.0, "seconds": 2.0}
ROWS = [
    {"stage": "teachers", "trial": "teacher-first", "epoch": 1, "accuracy": None, "log_loss": None, **EPOCH},
    {"stage": "search", "trial": "student-00", "epoch": 1, "accuracy": 0.25, "log_loss": 2.0, **EPOCH},
    {"stage": "search", "trial": "student-00", "epoch": 2, "accuracy": 0.5, "log_loss": 1.5, **EPOCH},
]
TRIAL = {"trial": "student-00", "state": "finished", "epochs": 2, "accuracy": 0.5, "log_loss": 1.5, "seconds": 4.0}


@pytest.fixture
def run_folder(tmp_path) -> Path:
    folder = tmp_path / "demo-0123"
    for name in ("models", "report"):
        (folder / name).mkdir(parents=True)
    known = make_results()
    known["models"] = {
        "student": {"torch": REPORT, "tflite": REPORT, "onnx": {**REPORT, "accuracy": 0.75}},
        "plain": None,
        "ensemble": None,
        "teachers": {"first": {**REPORT, "log_loss": 1.0}},
    }
    results = known | {"name": "demo", "seconds": {"search": 4.5}}
    write_json(folder / "results.json", results)
    write_json(folder / "versions.json", {"python": "3.12.1"})
    write_json(folder / "models" / "student.json", {"front_end": {}, "scenes": ["bus"]})
    (folder / "config.yaml").write_text("name: demo\nstudent:\n  recipe: {epochs: 2}\n")
    (folder / "report" / "index.html").write_text("<!doctype html>")
    write_lines(folder / "metrics.jsonl", ROWS)
    pq.write_table(
        pa.Table.from_pylist([{**TRIAL, "failure": "", "recipe.temperature": 1.3}]), folder / "trials.parquet"
    )
    return folder
