"""The report's tables, from the results to rows that the templates only have to write out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.report import paper
from orchestrator.report.coverage import interval
from orchestrator.report.schema import TFLITE, TORCH, Report, Results

FORMATS = {"onnx": "ONNX", "tflite": "TFLite"}  # as people write them
BEST_SYSTEM = "3"  # of those that were submitted


class SystemRow(NamedTuple):
    """One row of the main comparison."""

    name: str
    report: Report
    interval: tuple[float, float]  # of the accuracy
    differences: dict[str, float] | None = None  # exported files: output -> largest difference from torch
    seconds: float | None = None  # exported files: per clip
    product: bool = False  # the file that the run is about


def student_name(results: Results) -> str:
    """Of the exported student: "distilled" only where it was."""
    return "Distilled student" if results.distilled else "Student"


def systems(results: Results) -> list[SystemRow]:
    """Teachers, their ensemble, the plain student, the exported one before and after its export; those there are."""
    models, export = results.models, results.export
    if models is None:
        return []
    reports = {f"Teacher {name}": report for name, report in models.teachers.items()}
    if models.ensemble:
        reports["Ensemble of teachers"] = models.ensemble
    if models.plain:
        reports["Plain student, torch"] = models.plain
    name = student_name(results)
    reports[f"{name}, torch"] = models.student[TORCH]
    rows = [SystemRow(label, report, interval(report.confusion)) for label, report in reports.items()]
    for key, report in models.student.items():
        if key != TORCH:
            rows.append(
                SystemRow(
                    f"{name}, {FORMATS.get(key, key)}",
                    report,
                    interval(report.confusion),
                    export.largest_difference_from_torch[key],
                    export.seconds_per_clip[key],
                    product=key == TFLITE,
                )
            )
    return rows


@dataclass(frozen=True)
class Classes:
    """The form of the paper's Table 1: a row a class, a column a system, the average and the size at the foot."""

    columns: list[str]
    rows: list[tuple[str, int | None, list[float | None]]]  # scene, test clips, accuracies
    average: list[float]
    size: list[str | None]
    has_paper: bool


def classes(results: Results) -> Classes:
    """The paper's column is there only where it can be compared: on TAU's ten scenes, really recorded."""
    ours, system = columns(results), paper_system(results.name)
    has_paper = set(results.scenes) == set(paper.ACCURACIES) and not results.corpus.generated
    rows = []
    for scene in results.scenes:
        parts = [report.per_class.get(scene) for report in ours.values()]
        accuracies = [part.accuracy if part else None for part in parts]
        reported = [paper.accuracy(system, scene)] if has_paper else []
        rows.append((scene, parts[-1].clips if parts[-1] else None, accuracies + reported))
    return Classes(
        columns=[*ours, *[f"Zhao 2021, system {system}"] * has_paper],
        rows=rows,
        average=[report.accuracy for report in ours.values()] + [paper.AVERAGES[system]] * has_paper,
        size=[None] * (len(ours) - 1) + [f"{results.complexity.bytes / 1024:.1f} KiB", *[paper.SIZE] * has_paper],
        has_paper=has_paper,
    )


def paper_system(experiment: str) -> str:
    """The paper's system that an experiment is compared with: its own, where a preset repeats one; else the best."""
    own = re.match(r"dcase2021-([1-4])\b", experiment)
    return own[1] if own else BEST_SYSTEM


def columns(results: Results) -> dict[str, Report]:
    """The models that are compared class by class and device by device, those there are; the exported file last."""
    models = results.models
    assert models is not None
    found = {"Ensemble": models.ensemble, "Plain": models.plain}
    file = "Distilled TFLite" if results.distilled else "Student TFLite"
    return {name: report for name, report in found.items() if report} | {file: models.student[TFLITE]}


class DeviceRow(NamedTuple):
    name: str
    clips: int
    accuracies: list[float | None]  # of `columns`
    log_loss: float  # of the TFLite file


def devices(results: Results) -> list[DeviceRow]:
    """One row a recording device of the test split; none where the corpus does not name them."""
    ours = columns(results)
    product = list(ours.values())[-1]
    rows = []
    for name, part in product.per_device.items():
        parts = [report.per_device.get(name) for report in ours.values()]
        rows.append(DeviceRow(name, part.clips, [each.accuracy if each else None for each in parts], part.log_loss))
    return rows


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


def confusion(scenes: Sequence[str], product: Report, mistakes: int = 8) -> Confusion:
    """The TFLite file's confusion matrix."""
    matrix = product.confusion
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
    return Confusion(list(scenes), rows, found[:mistakes])
