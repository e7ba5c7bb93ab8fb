"""results.json of a finished run, from what its stages have made."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from features.corpus import folded
from features.generated import generated_from
from features.precompute import Manifest
from models.prediction import Predictions
from orchestrator.config.experiment import Experiment
from orchestrator.export.formats import formats_of
from orchestrator.report.compared import comparison, searched
from orchestrator.report.measure import measure
from orchestrator.report.schema import (
    SCHEMA,
    TORCH,
    Averages,
    BestTrial,
    Complexity,
    Corpus,
    Decision,
    Export,
    Models,
    NearCopy,
    Part,
    Report,
    Results,
    Seed,
    Validation,
)
from orchestrator.stages.choice import draws_seed
from orchestrator.stages.context import Data
from orchestrator.stages.final_actor import COMBINED_TFLITE
from orchestrator.stages.near_copies import read_near_copies
from orchestrator.stages.search import Search
from orchestrator.stages.students import DISTILLED, PLAIN, STUDENT_WEIGHTS, best_student, exported_of, named
from orchestrator.storage.files import read_json
from orchestrator.storage.runs import METRICS, MODELS, REPORT, TRIALS_TABLE
from orchestrator.training.data import Split
from orchestrator.training.paired import Clips
from orchestrator.training.scores import Scores
from orchestrator.training.task import decide


@dataclass(frozen=True)
class Made:
    """What a run's stages have made."""

    data: Data
    manifest: Manifest
    search: Search | None
    features: Path  # the features' artifact
    final: Path  # the final stage's
    seconds: dict[str, float]  # by stage
    artifacts: dict[str, str]  # by name, relative to the storage


def collect(config: Experiment, made: Made) -> Results:
    """Everything scripts may rely on. Paths are relative to the run folder, artifacts to the storage."""
    data, search, final = made.data, made.search, made.final
    taxonomy = config.corpus.taxonomy
    distilled = any(best_student(config, search).recipe.soft_weights)
    decision: Decision = config.decision if taxonomy.groups else "scene"
    export = read_json(final / "export.json")
    return Results(
        schema=SCHEMA,
        name=config.name,
        seed=config.seed,
        decision=decision,
        select_by=config.select_by,
        distilled=distilled,
        label_temperatures=data.train.temperatures if distilled else None,
        refit_of=config.refit_of,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        corpus=corpus_of(config, made),
        scenes=taxonomy.scenes,
        groups=dict(config.corpus.groups or {}),
        models=models(config, final, decision, distilled) if len(data.test) else None,
        complexity=Complexity(
            **export["complexity"], file_bytes=export["file_bytes"], input_shape=export["input_shape"]
        ),
        export=Export(
            largest_difference_from_torch=export["largest_difference_from_torch"],
            seconds_per_clip=export["seconds_per_clip"],
        ),
        averages=averages(final),
        best_trial=None if search is None else best_trial(search),
        search=None if search is None else searched(config, search),
        seconds=made.seconds,
        paths=paths(config, search is not None),
        artifacts=made.artifacts,
    )


def corpus_of(config: Experiment, made: Made) -> Corpus:
    """The corpus section of results.json."""
    data = made.data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return Corpus(
        root=str(config.corpus.root),
        generated=generated_from(config.corpus.root) is not None,
        data_hash=made.manifest.data_hash,
        fit_on=config.corpus.fit_on,
        clips={name: split.recordings for name, split in splits.items()},
        located=sum(map(located_in, splits.values())),
        copies=config.kinds_of_copies,
        quarantine=data.quarantine,
        notes=data.notes,
        near_copies=tuple(NearCopy(**asdict(pair)) for pair in read_near_copies(made.features)),
    )


def located_in(split: Split) -> int:
    """Recordings of a split whose location is known."""
    places = zip(split.locations[: split.recordings], split.paths, strict=False)
    return sum(folded(location) != folded(path) for location, path in places)


def models(config: Experiment, final: Path, decision: Decision, distilled: bool) -> Models:
    """A report of every model that predicted the test split, read as the experiment decides."""
    taxonomy, chosen = config.corpus.taxonomy, read_json(final / "chosen.json")
    table = pq.read_table(final / "predictions.parquet")
    reports: dict[str, Report] = {}
    scores: dict[str, Scores] = {}
    names = table["model"].to_pylist()
    for name in dict.fromkeys(names):
        rows = table.filter(np.array([other == name for other in names]))
        scene, group = (torch.from_numpy(np.stack(rows[column].to_numpy())) for column in ("scene", "group"))
        labels, decided = rows["label"].to_numpy(), decide(Predictions(scene, group), decision, taxonomy)
        reports[name] = measure(labels, decided, taxonomy.scenes, rows["device"].to_pylist())
        scores[name] = Scores.of(labels, decided)
    of_teachers = [name for name in reports if name.startswith("teacher ")]
    teachers = {name.removeprefix("teacher "): reports.pop(name) for name in of_teachers}
    ensemble = reports.pop("ensemble", None)
    pairs = [(named(DISTILLED, seed), named(PLAIN, seed)) for seed in range(config.final.seeds)]
    students = {name: reports.pop(name) for pair in pairs for name in pair if name in reports}
    plain = students[chosen[PLAIN]] if distilled and PLAIN in chosen else None
    compared = None
    if plain is not None:
        first = table.filter(np.array([name == names[0] for name in names]))
        clips = Clips(first["label"].to_numpy(), first["device"].to_pylist(), first["location"].to_pylist())
        both = [[scores[pair[kind]] for pair in pairs] for kind in (0, 1)]
        compared = comparison(both, clips, draws_seed(config))
    return Models(
        student={TORCH: students[chosen[exported_of(chosen)]], **reports},  # what is left are the exported formats
        plain=plain,
        ensemble=ensemble,
        teachers=teachers,
        seeds=tuple(
            Seed(
                seed=seed,
                distilled=part_of(students.get(one)),
                plain=part_of(students.get(other)),
            )
            for seed, (one, other) in enumerate(pairs)
        ),
        distilled_minus_plain=compared,
    )


def part_of(report: Report | None) -> Part | None:
    return report and Part(accuracy=report.accuracy, log_loss=report.log_loss, clips=sum(map(sum, report.confusion)))


def averages(final: Path) -> Averages:
    """Of the chosen trainings."""
    every = read_json(final / "averages.json")
    return Averages.model_validate({kind: every[name] for kind, name in read_json(final / "chosen.json").items()})


def paths(config: Experiment, searched: bool) -> dict[str, str]:
    """Where a run's files are, in its folder."""
    files = {name: f"student{written.suffix}" for name, written in formats_of(config.export).items()}
    files["safetensors"] = STUDENT_WEIGHTS
    files |= {"tflite_combined": COMBINED_TFLITE} if config.corpus.taxonomy.groups else {}
    return {
        **{name: f"{MODELS}/{file}" for name, file in files.items()},
        **({"trials": TRIALS_TABLE} if searched else {}),
        "metrics": METRICS,
        "report": REPORT,
    }


def best_trial(search: Search) -> BestTrial:
    best = next(trial for trial in search.trials() if trial.trial == search.best)
    validation = Validation(accuracy=best.accuracy, log_loss=best.log_loss)
    return BestTrial(name=search.best, settings=search.settings, validation=validation)
