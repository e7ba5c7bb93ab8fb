"""The final stage: the best recipe distilled over the full schedule, averaged, exported, and all models evaluated.

A twin trains the plain student, the same recipe without distillation, so that the difference is measured. What is
kept does not depend on how the student is read: systems 2 and 3 of the paper are one artifact.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayTaskError

from models.averaging import ensemble
from models.prediction import Predictions
from orchestrator.config.experiment import FORMATS, Experiment
from orchestrator.config.keys import key_of
from orchestrator.config.trained import StudentSettings
from orchestrator.monitor.tensorboard import to_tensorboard
from orchestrator.monitor.view import Bar
from orchestrator.stages.actors import follow, start_actors
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.final_actor import MODEL, Outcome
from orchestrator.stages.labels import attached_by
from orchestrator.stages.search import Search, student_task
from orchestrator.stages.snapshots import predict_teachers
from orchestrator.stages.students import (
    STUDENT_WEIGHTS,
    TWIN_WEIGHTS,
    begun_by,
    best_student,
    chosen_of,
    exported_of,
    tasks_of,
    training_of,
    trial_of,
)
from orchestrator.stages.teachers import task_of
from orchestrator.storage.files import write_json
from orchestrator.storage.work import Work, working
from orchestrator.training.data import NAMED, Split
from orchestrator.training.journal import keep_trial, trials_in
from orchestrator.training.mending import mend
from orchestrator.training.record import FINISHED, ROWS, TRIALS, rows_of
from orchestrator.training.task import entries_of
from orchestrator.versions import exporters

EMPTY = pa.table({"model": pa.array([], pa.string())})  # where no clip is left to predict


def run(context: Context, data: Data, teachers: dict[str, Path], labels: Path | None, search: Search | None) -> Path:
    """Train, average, export and evaluate; the only stage that reads the test split."""
    config, store = context.config, context.store
    student = best_student(config, search)
    key = key_for(config, student, data, labels.name if labels else None)
    folder = store.finished("final", key)
    if folder is not None:
        context.view.reused("final", "the exported student", [folder])
        return folder
    announce_restart(context, "final", key)
    with context.view.stage("final") as bar, working(store, "final", key, bar.wait, bar.so_far) as work:
        if store.finished("final", key) is None:  # another run may just have finished it
            bar.made_in(work.folder)
            mend(store, work.folder)
            begun = {name: begun_by(config, task, student, search) for name, task in tasks_of(config, student).items()}
            made = make(context, data, teachers, student, begun, work, bar)
            publish(context, data, key, work, made, search.best if search else None)
        bar.made_in(published(store, "final", key))
        work.discard()
    return published(store, "final", key)


def key_for(config: Experiment, student: StudentSettings, data: Data, labels: str | None) -> str:
    """The final artifact's key; `labels` is the key of the soft labels, if there are any."""
    entries = entries_of(student_task(config, student))
    entries += [FORMATS.find(name).implementation for name in config.export]
    how = (
        config.judged,
        config.mean_over,
        config.select_by,
        config.test_shifts,
        config.plain,
        config.final,
        config.export,
        config.seed,
    )
    code = basis(make, publish, *entries, *attached_by(config))
    return key_of(code, exporters(), student, *how, config.resources.cpus_per_trial, labels, data.key)


@dataclass(frozen=True)
class Finished:
    """The actors' outcomes, and every model's predictions on the test split."""

    outcomes: dict[str, Outcome]
    chosen: dict[str, str]  # "distilled" or "plain", or both -> the student of its seeds that is best on validation
    predictions: dict[str, Predictions]


def make(
    context: Context,
    data: Data,
    teachers: dict[str, Path],
    student: StudentSettings,
    begun: dict[str, Path | None],
    work: Work,
    bar: Bar,
) -> Finished:
    """The actors train, average and export; the teachers predict the test split.

    `begun` are the journals that trainings go on from; where there is none, a training gives the same from its start.
    """
    config, store = context.config, context.store
    tasks = tasks_of(config, student)
    actors = start_actors(context, tasks, student, begun, work.folder)
    # The teachers predict whenever a CPU is free; an actor frees its CPUs when it is done.
    measured = teachers if len(data.test) else {}
    trainings = {name: task_of(config, name) for name in measured}
    members = predict_teachers(trainings, config.resources, store, measured, data.test.features, config.test_shifts)

    def failed(name: str, error: RayTaskError) -> None:
        training_of(name, tasks[name]).fail(store, work.folder, reason_in(error), str(error))

    outcomes = follow(actors, data, student.recipe.epochs, bar, failed, exported=config.final.seeds == 1)
    chosen = chosen_of(outcomes, config.select_by)
    if config.final.seeds > 1:  # which one is exported is known only now
        name = chosen[exported_of(chosen)]
        again = start_actors(context, {name: tasks[name]}, student, begun, work.folder)
        outcomes |= follow(again, data, student.recipe.epochs, bar, failed, exported=True, trained=True)
    for name, task in tasks.items():
        training, folder = training_of(name, task, FINISHED), work.folder / TRIALS / trial_of(name)
        store.pull(folder / ROWS)
        to_tensorboard(store, context.run, training, rows_of(folder))
        training.write(store, work.folder)
    together = {name: ensemble(ray.get(rows), config.ensemble_of) for name, rows in members.items()}
    predictions = {f"teacher {name}": rows for name, rows in together.items()}
    if together:
        predictions["ensemble"] = ensemble(list(together.values()), config.ensemble_of)
    for outcome in outcomes.values():
        predictions |= outcome.predictions
    kept = outcomes[chosen[exported_of(chosen)]]
    bar.about(f"{kept.averaged.kept}; {kept.facts['complexity']['bytes']:,} bytes by the challenge's rule")
    return Finished(outcomes, chosen, predictions)


def reason_in(error: RayTaskError) -> str:
    """Why an actor's call failed: the last line of what it raised, or the kind of that."""
    return (str(error.cause).strip() or type(error.cause).__name__).splitlines()[-1]


def publish(context: Context, data: Data, key: str, work: Work, made: Finished, best_trial: str | None) -> None:
    """Write the final artifact: models, averages, predictions on the test split, the trainings' records."""
    store, outcomes = context.store, made.outcomes
    store.pull(work.folder)
    with store.publish("final", key) as target:
        keep_files(work.folder, target, outcomes, made.chosen)
        write_json(target / "averages.json", {name: asdict(outcome.averaged) for name, outcome in outcomes.items()})
        write_json(target / "export.json", outcomes[made.chosen[exported_of(made.chosen)]].facts)
        write_json(target / "chosen.json", made.chosen)
        write_predictions(target / "predictions.parquet", data.test, made.predictions)
        record(target, work.seconds, best_trial=best_trial)


def keep_files(work: Path, target: Path, tasks: Iterable[str], chosen: Mapping[str, str]) -> None:
    """Copy into the artifact what the actors have made."""
    exported = exported_of(chosen)
    for file in (work / TRIALS / trial_of(chosen[exported])).glob("student*"):
        shutil.copy(file, target / file.name)
    for kind, name in chosen.items():
        weights = STUDENT_WEIGHTS if kind == exported else TWIN_WEIGHTS
        shutil.copy(work / TRIALS / trial_of(name) / MODEL, target / weights)
    for name in tasks:
        (trial,) = (trial for trial in trials_in(work) if trial.name == trial_of(name))
        keep_trial(work, trial, target)


def write_predictions(path: Path, test: Split, predictions: dict[str, Predictions]) -> None:
    """One row a model and clip: the probabilities of both classifiers."""
    tables = [
        pa.table(
            {
                "model": [name] * len(test),
                **{column: test.clips[column] for column in NAMED},
                "label": test.clips["scene"],
                "scene": list(values.scene.numpy()),
                "group": list(values.group.numpy()),
            }
        )
        for name, values in predictions.items()
    ]
    pq.write_table(pa.concat_tables(tables) if tables else EMPTY, path)
