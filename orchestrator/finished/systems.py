"""Several experiments as one command, and their classes side by side: the paper's Table 1."""

from pathlib import Path
from typing import Any

from orchestrator.cluster.connection import connected
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.monitor.view import View
from orchestrator.report.systems import write_table
from orchestrator.run import run
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.store import Store


def run_systems(name: str, systems: dict[str, Experiment], store: Store, view: View) -> Path:
    """Run each; what they have in common is made once. Return the folder of the table."""
    runs: dict[str, Path] = {}
    with connected():
        for label, config in systems.items():
            view.line(f"System {label}")
            runs[label] = run(config, store, view)
            view.line("")
    folder = store.root / f"{name}-{key_of(list(systems.values()))[:8]}"
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", table(name, runs))
    write_table(folder)
    store.push(folder)
    return folder


def table(name: str, runs: dict[str, Path]) -> dict[str, Any]:
    """The systems' results: label -> the run's folder, what it measured of its exported file, and its size."""
    systems = {}
    for label, folder in runs.items():
        results = read_json(folder / "results.json")
        systems[label] = {
            "run": folder.name,
            "name": results["name"],
            "decision": results["decision"],
            "tflite": results["models"]["student"]["tflite"],
            "bytes": results["complexity"]["bytes"],
            "file_bytes": results["complexity"]["file_bytes"]["tflite"],
            "artifact": results["artifacts"]["final"],
        }
    first = read_json(next(iter(runs.values())) / "results.json")
    return {"schema": 1, "name": name, "corpus": first["corpus"], "scenes": first["scenes"], "systems": systems}
