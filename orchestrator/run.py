"""The stages in order, what is done and what is next, and the run's folder."""

import csv
import importlib.metadata
import logging
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from orchestrator.artifacts import Store, append_line, read_lines, write_json
from orchestrator.cluster import connected
from orchestrator.config import Experiment, key_of, to_yaml
from orchestrator.export.onnx import COMBINED, OUTPUTS
from orchestrator.results import collect
from orchestrator.stages import Context, Data, features, final, labels, seconds_of, teachers
from orchestrator.stages import search as search_stage
from orchestrator.stages.final_actor import COMBINED_TFLITE, TFLITE
from orchestrator.stages.search import Search
from orchestrator.training import require_size
from orchestrator.view import View, duration

STAGES = ("features", "teachers", "labels", "search", "final")
PACKAGES = (
    "torch",
    "torchaudio",
    "ray",
    "tensorflow",
    "onnx2tf",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "optuna",
    "numpy",
)


def run_folder(config: Experiment, store: Store) -> Path:
    """The same config has the same folder, which is how a second start finds what the first one did."""
    return store.root / f"{config.name}-{key_of(config)[:8]}"


def run(config: Experiment, store: Store, view: View) -> Path:
    """Run every stage that is not finished; return the run folder. Raises UserError, CorpusError."""
    from orchestrator.report.build import write_model_card, write_report

    store.check_writable()
    folder = run_folder(config, store)
    folder.mkdir(parents=True, exist_ok=True)
    log_to(folder / "log.txt")
    (folder / "config.yaml").write_text(to_yaml(config))
    write_json(folder / "versions.json", versions())
    view.line(f"{config.name}: {folder}")
    context = Context(config, store, view)
    features.run_corpus(context)
    features.check(config)  # a bad corpus is told before a cluster is started
    require_size(search_stage.student_task(config, config.student))
    with connected():
        computed, features_folder = features.run(context)
        write_quarantine(folder / "quarantine.csv", computed.manifest.quarantine)
        data = features.load_data(config, computed, store.shards)
        teacher_folders = teachers.run(context, data)
        data, labels_folder = labels.run(context, data, teacher_folders)
        found = search_stage.run(context, data, labels_folder)
        final_folder = final.run(context, data, teacher_folders, labels_folder, found)
    write_models(folder / "models", config, data, final_folder)
    folders = {"features": features_folder, "labels": labels_folder, "final": final_folder}
    if found is not None:
        shutil.copy(found.folder / "trials.parquet", folder / "trials.parquet")
        folders["search"] = found.folder
    write_metrics(folder / "metrics.jsonl", teacher_folders, found, final_folder)
    seconds = {name: seconds_of(path) for name, path in folders.items()}
    seconds["teachers"] = max(map(seconds_of, teacher_folders.values()))
    seconds = {name: seconds[name] for name in STAGES if name in seconds}
    folders |= {f"teacher-{name}": path for name, path in teacher_folders.items()}
    results = collect(
        config,
        data,
        computed.manifest,
        found,
        final_folder,
        seconds,
        {name: str(path.relative_to(store.root)) for name, path in folders.items()},
    )
    write_json(folder / "results.json", results)
    write_report(folder)
    write_model_card(folder)
    summarise(results, view)
    return folder


def write_models(folder: Path, config: Experiment, data: Data, final_folder: Path) -> None:
    """The exported files, each with what `predict` has to know of it beside it."""
    folder.mkdir(exist_ok=True)
    taxonomy = config.corpus.taxonomy
    facts = {
        "front_end": asdict(config.features),
        "test_shifts": config.test_shifts,
        "decision": config.decision,
        "responses": data.responses,
        **asdict(taxonomy),
    }
    for file in ("student.onnx", "student.safetensors", TFLITE, COMBINED_TFLITE):
        if (final_folder / file).exists():
            shutil.copy(final_folder / file, folder / file)
    write_json((folder / TFLITE).with_suffix(".json"), {"outputs": OUTPUTS, **facts})
    if (folder / COMBINED_TFLITE).exists():
        write_json((folder / COMBINED_TFLITE).with_suffix(".json"), {**facts, "outputs": COMBINED, "decision": "scene"})


def write_quarantine(path: Path, quarantine: dict[str, str]) -> None:
    """What was left out, and why."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "reason"), *quarantine.items()])


def write_metrics(path: Path, teacher_folders: dict[str, Path], search: Search | None, final_folder: Path) -> None:
    """Every epoch of every training as JSON lines: stage, trial, then the epoch's row."""
    path.unlink(missing_ok=True)
    for name, folder in teacher_folders.items():
        for row in read_lines(folder / "metrics.jsonl"):
            append_line(path, {"stage": "teachers", "trial": f"teacher-{name}", **row})
    for row in read_lines(search.folder / "metrics.jsonl") if search else ():
        append_line(path, {"stage": "search", **row})
    for name in (final.DISTILLED, final.PLAIN):
        for row in read_lines(final_folder / f"metrics-{name}.jsonl"):
            append_line(path, {"stage": "final", "trial": f"final-{name}", **row})


def summarise(results: dict, view: View) -> None:
    """The summary that stands at the end."""
    models = results["models"]
    view.line("")
    if models is None:
        view.line(f"Trained on everything, no clip is left to measure on; {results['refit_of']} says what to expect.")
    else:
        view.line(f"{'on the test split':<22}{'accuracy':>9}{'log loss':>10}")
        rows = {"distilled, TFLite file": models["student"]["tflite"], "distilled, torch": models["student"]["torch"]}
        rows |= {"plain student": models["plain"]} if models["plain"] else {}
        rows |= {"ensemble": models["ensemble"]}
        rows |= {f"teacher {name}": row for name, row in models["teachers"].items()}
        for name, row in rows.items():
            view.line(f"{name:<22}{row['accuracy']:>9.3f}{row['log_loss']:>10.3f}")
    cost = results["complexity"]
    view.line(
        f"{cost['parameters']:,} parameters, {cost['bytes']:,} bytes by the challenge's rule, "
        f"{cost['file_bytes']['tflite']:,} bytes on disk; {duration(sum(results['seconds'].values()))} in all"
    )
    if results["corpus"]["generated"]:
        view.line("The corpus is generated: these accuracies mean nothing outside it.")


def versions() -> dict[str, str]:
    """What computed this: Python, machine, packages."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": sys.version.split()[0], "machine": platform.machine(), "system": platform.system(), **packages}


def log_to(path: Path) -> None:
    """Send our own log to the run's folder."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("stillhouse")
    for old in list(log.handlers):
        log.removeHandler(old)
        old.close()
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
