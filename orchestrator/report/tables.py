"""The report's tables, from results.json to rows that the templates only have to write out."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from orchestrator.report import paper

BEST_SYSTEM = "3"  # of those that were submitted


class System(NamedTuple):
    """One row of the main comparison."""

    name: str
    report: dict[str, Any]
    interval: float  # half the width, of the accuracy
    differences: dict[str, float] | None = None  # exported files: output -> largest difference from torch
    seconds: float | None = None  # exported files: per clip
    product: bool = False  # the file that the run is about


def systems(results: Mapping[str, Any]) -> list[System]:
    """Teachers, their ensemble, the plain student, the distilled one in its three formats."""
    models, export = results["models"], results["export"]
    reports = {f"Teacher {name}": report for name, report in models["teachers"].items()}
    reports["Ensemble of teachers"] = models["ensemble"]
    if models["plain"]:
        reports["Plain student, torch"] = models["plain"]
    reports["Distilled student, torch"] = models["student"]["torch"]
    rows = [System(name, report, interval(report["confusion"])) for name, report in reports.items()]
    for key, label in (("onnx", "ONNX"), ("tflite", "TFLite")):
        report = models["student"][key]
        rows.append(
            System(
                f"Distilled student, {label}",
                report,
                interval(report["confusion"]),
                export["largest_difference_from_torch"][key],
                export["seconds_per_clip"][key],
                product=key == "tflite",
            )
        )
    return rows


def interval(confusion: Sequence[Sequence[int]]) -> float:
    """Half the width of macro accuracy's 95 % interval if clips were independent (Agresti-Coull per class)."""
    matrix = np.asarray(confusion)
    clips = matrix.sum(1)
    present = clips > 0
    trials = clips[present] + 4
    share = (matrix.diagonal()[present] + 2) / trials
    return float(1.96 * math.sqrt((share * (1 - share) / trials).sum()) / present.sum())


@dataclass(frozen=True)
class Classes:
    """The form of the paper's Table 1: a row a class, a column a system, the average and the size at the foot."""

    columns: list[str]
    rows: list[tuple[str, int | None, list[float | None]]]  # scene, test clips, accuracies
    average: list[float]
    size: list[str | None]
    has_paper: bool


def classes(results: Mapping[str, Any]) -> Classes:
    """The paper's column is there only where it can be compared: on TAU's ten scenes, really recorded."""
    ours, system = columns(results["models"]), paper_system(results["name"])
    has_paper = set(results["scenes"]) == set(paper.ACCURACIES) and not results["corpus"]["generated"]
    rows = []
    for scene in results["scenes"]:
        parts = [report["per_class"].get(scene, {}) for report in ours.values()]
        accuracies = [part.get("accuracy") for part in parts]
        reported = [paper.accuracy(system, scene)] if has_paper else []
        rows.append((scene, parts[-1].get("clips"), accuracies + reported))
    return Classes(
        columns=[*ours, *[f"Zhao 2021, system {system}"] * has_paper],
        rows=rows,
        average=[report["accuracy"] for report in ours.values()] + [paper.AVERAGES[system]] * has_paper,
        size=[None] * (len(ours) - 1) + [f"{results['complexity']['bytes'] / 1024:.1f} KiB", *[paper.SIZE] * has_paper],
        has_paper=has_paper,
    )


def paper_system(experiment: str) -> str:
    """The paper's system that an experiment is compared with: its own, where a preset repeats one; else the best."""
    own = re.match(r"dcase2021-([1-4])\b", experiment)
    return own[1] if own else BEST_SYSTEM


def columns(models: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models that are compared class by class and device by device; the plain student only if there is one."""
    plain = {"Plain": models["plain"]} if models["plain"] else {}
    return {"Ensemble": models["ensemble"], **plain, "Distilled TFLite": models["student"]["tflite"]}


class Device(NamedTuple):
    name: str
    clips: int
    accuracies: list[float]  # of `columns`
    log_loss: float  # of the TFLite file


def devices(results: Mapping[str, Any]) -> list[Device]:
    """One row a recording device of the test split; none where the corpus does not name them."""
    ours = columns(results["models"])
    return [
        Device(
            name,
            part["clips"],
            [report["per_device"][name]["accuracy"] for report in ours.values()],
            part["log_loss"],
        )
        for name, part in results["models"]["student"]["tflite"]["per_device"].items()
    ]


class Mistake(NamedTuple):
    """A cell off the confusion matrix's diagonal."""

    scene: str
    heard_as: str
    clips: int
    of: int  # clips of that scene


@dataclass(frozen=True)
class Confusion:
    """Counts (label, decision) and each count's share of its label's clips."""

    scenes: list[str]
    rows: list[tuple[str, int, list[tuple[int, float]]]]  # scene, clips, (count, share) a decision
    mistakes: list[Mistake]  # the most frequent ones by share


def confusion(results: Mapping[str, Any], mistakes: int = 8) -> Confusion:
    """The TFLite file's confusion matrix."""
    scenes = results["scenes"]
    matrix = results["models"]["student"]["tflite"]["confusion"]
    rows, found = [], []
    for index, (scene, counts) in enumerate(zip(scenes, matrix, strict=True)):
        clips = sum(counts)
        rows.append((scene, clips, [(count, count / clips if clips else 0.0) for count in counts]))
        found += [
            Mistake(scene, scenes[other], count, clips)
            for other, count in enumerate(counts)
            if count and other != index
        ]
    found.sort(key=lambda mistake: mistake.clips / mistake.of, reverse=True)
    return Confusion(scenes, rows, found[:mistakes])


def by_note(notes: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """What was done to recordings, and to which: the most frequent first."""
    paths: dict[str, list[str]] = {}
    for path, note in notes.items():
        paths.setdefault(note, []).append(path)
    return sorted(paths.items(), key=lambda item: (-len(item[1]), item[0]))
