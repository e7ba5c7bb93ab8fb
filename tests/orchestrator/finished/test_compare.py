"""What tells two runs apart."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.finished.compare import compare
from orchestrator.storage.files import write_json
from tests.orchestrator.report.sample_runs import make_results


def write_run(folder: Path, config: str, versions: dict[str, str], results: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    write_json(folder / "versions.json", versions)
    write_json(folder / "results.json", results)
    return folder


def compared(first: Path, second: Path) -> tuple[bool, list[list[str]]]:
    """Whether anything differs, and the words of each line."""
    console = Console(file=(text := io.StringIO()), width=100)
    differs = compare(first, second, console)
    return differs, [line.split() for line in text.getvalue().splitlines()]


def test_runs_are_compared_by_what_differs_alone(tmp_path):
    runs = []
    for name, seed, accuracy in (("one", 0, 0.5), ("two", 1, 0.625)):
        results = make_results()
        results["finished"] = name
        results["models"]["student"]["tflite"]["accuracy"] = accuracy
        results["models"]["student"]["tflite"]["per_class"]["bus"]["accuracy"] = accuracy
        config = f"name: demo\nseed: {seed}\ncorpus: {{root: /data}}\n"
        runs.append(write_run(tmp_path / name, config, {"torch": "2.11.0"}, results))
    differs, rows = compared(runs[0], runs[1])
    assert differs
    assert ["seed", "0", "1"] in rows and ["versions:", "equal"] in rows
    assert [row for row in rows if row and row[0].startswith("models.")] == [
        ["models.student.tflite.accuracy", "0.5000", "0.6250"]
    ]
    assert not [row for row in rows if row and row[0] in ("finished", "name")]
    assert not compared(runs[0], runs[0])[0]


def test_versions_and_weights_of_settings_are_compared_too(tmp_path):
    runs = []
    for name, torch, weight in (("one", "2.11.0", 1), ("two", "2.9.0", 2)):
        results = make_results()
        results["averages"]["distilled"]["weights"] = {"62": weight}
        versions = {"torch": torch, "onnx": "1.20.1"}
        runs.append(write_run(tmp_path / name, f"student: {{weights: [{weight}]}}\n", versions, results))
    differs, rows = compared(runs[0], runs[1])
    assert differs
    assert ["torch", "2.11.0", "2.9.0"] in rows and ["student.weights", "[1]", "[2]"] in rows
    assert ["results:", "equal"] in rows
