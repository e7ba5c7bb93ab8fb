"""Several experiments as one command, and their classes side by side: the paper's Table 1."""

from pathlib import Path

from orchestrator.cluster.connection import connected
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import folder_name
from orchestrator.monitor.view import View
from orchestrator.report.schema import TFLITE, Results, SystemResult, Systems
from orchestrator.report.systems import write_table
from orchestrator.run import run
from orchestrator.storage.runs import RESULTS
from orchestrator.storage.store import Store


def run_systems(name: str, systems: dict[str, Experiment], store: Store, view: View) -> Path:
    """Run each; what they have in common is made once. Return the folder of the table."""
    runs: dict[str, Path] = {}
    with connected() as dashboard:
        if dashboard:
            view.line(f"  {dashboard}")
        for label, config in systems.items():
            view.line(f"System {label}")
            runs[label] = run(config, store, view)
            view.line("")
    folder = store.root / folder_name(name, list(systems.values()))
    folder.mkdir(exist_ok=True)
    table(name, runs).write(folder / RESULTS)
    write_table(folder)
    store.push(folder)
    return folder


def table(name: str, runs: dict[str, Path]) -> Systems:
    """The systems' results, each of its run's exported file."""
    results = {label: Results.read(folder / RESULTS) for label, folder in runs.items()}
    first = next(iter(results.values()))
    systems = {label: system_of(runs[label].name, found) for label, found in results.items()}
    return Systems(schema=Systems.newest, name=name, corpus=first.corpus, scenes=first.scenes, systems=systems)


def system_of(run: str, results: Results) -> SystemResult:
    """What the table of systems shows of one finished run."""
    assert results.product is not None, "a set's systems are measured on the test split"
    return SystemResult(
        run=run,
        name=results.name,
        decision=results.decision,
        tflite=results.product,
        bytes=results.complexity.bytes,
        file_bytes=results.complexity.file_bytes[TFLITE],
        artifact=results.artifacts["final"],
    )
