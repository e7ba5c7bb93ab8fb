"""Teachers: side by side on Ray Tune, one artifact each, so that a changed teacher leaves the others alone."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from models.seeding import derive
from orchestrator.artifacts import append_line, load_snapshot, save_tensors, snapshot_name
from orchestrator.config import Experiment, key_of
from orchestrator.errors import UserError
from orchestrator.stages import FORMAT, Clock, Context, Data, record
from orchestrator.stages.tuning import Trial, Watch, concurrency, run_trials
from orchestrator.training import Task


def task_of(config: Experiment, name: str) -> Task:
    """Teachers are judged by their scene classifier while they train, whatever the student's decision is."""
    teacher = config.teachers[name]
    return Task(
        model=teacher.model,
        recipe=teacher.recipe,
        seed=derive(config.seed, "teacher", name),
        taxonomy=config.corpus.taxonomy,
        decision="scene",
        copies=teacher.copies,
        threads=config.resources.cpus_per_trial,
    )


def trial_task(config: Experiment, settings: dict[str, Any]) -> Task:
    return task_of(config, settings["teacher"])


def key(config: Experiment, name: str, data: Data) -> str:
    teacher = config.teachers[name]
    return key_of(FORMAT, task_of(config, name), teacher.ensemble, data.key if teacher.copies else data.recordings_key)


def run(context: Context, data: Data) -> dict[str, Path]:
    """Train the teachers that label and are not finished; return each one's folder."""
    config, store = context.config, context.store
    keys = {name: key(config, name, data) for name in config.labelling}
    missing = [name for name in keys if store.finished("teacher", keys[name]) is None]
    if missing:
        with context.view.stage("teachers") as bar:
            # One experiment for the set that is missing: the same set after an interruption is the same one.
            work = store.work("teachers", key_of({name: keys[name] for name in missing}))
            clock = Clock(work)
            epochs = max(config.teachers[name].recipe.epochs for name in missing)
            slots = concurrency(config.resources)
            try:
                trials = run_trials(
                    work,
                    "tune",
                    {"teacher": tune.grid_search(missing)},
                    tune.TuneConfig(
                        trial_name_creator=trial_name, trial_dirname_creator=trial_name, max_concurrent_trials=slots
                    ),
                    {
                        "task_of": partial(trial_task, config),
                        "data": data.train,
                        "validation": data.validation,
                        "reduction_factor": 2,
                    },
                    config.resources,
                    Watch(len(missing), epochs, config.select_by),
                    bar,
                    keep=None,
                )
            finally:
                seconds = clock.save()
            for trial in trials:
                if trial.failure is None:
                    publish(context, trial, keys[trial.settings["teacher"]], seconds)
            failed = [trial for trial in trials if trial.failure]
            if failed:
                raise UserError(f"{failed[0].name} failed: {failed[0].failure}; the other teachers are kept")
            best = {trial.settings["teacher"]: trial.rows[-1] for trial in trials}
            bar.detail = ", ".join(describe(name, row) for name, row in best.items())
            shutil.rmtree(work)
    folders = {}
    for name in keys:
        folder = store.finished("teacher", keys[name])
        assert folder is not None
        folders[name] = folder
        if name not in missing:
            context.view.reused("teachers", name)
    return folders


def describe(name: str, row: dict[str, Any]) -> str:
    return name if row["accuracy"] is None else f"{name} {row['accuracy']:.3f} on validation"


def publish(context: Context, trial: Trial, key: str, seconds: float) -> None:
    """Keep the snapshots that vote, and the curves."""
    name = trial.settings["teacher"]
    with context.store.publish("teacher", key) as folder:
        for epoch in context.config.teachers[name].ensemble:
            save_tensors(folder / snapshot_name(epoch), load_snapshot(trial.snapshots[epoch]).model)
        for row in trial.rows:
            append_line(folder / "metrics.jsonl", row)
        record(folder, seconds, name=name)


def trial_name(trial: Any) -> str:
    return f"teacher-{trial.config['teacher']}"
