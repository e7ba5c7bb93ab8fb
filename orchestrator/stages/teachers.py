"""Teachers: side by side on Ray Tune, one artifact each, so that a changed teacher leaves the others alone.

Each is trained on every cut of the recordings that needs labels: the run's own, the search's folds, and those that
some label sources want.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ray import tune

from models.seeding import derive
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.config.search import NoneSettings
from orchestrator.errors import UserError
from orchestrator.monitor.view import Bar
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.recorder import Recorder
from orchestrator.stages.stopping import Never
from orchestrator.stages.trainable import Plan
from orchestrator.stages.tuning import run_trials, until_ended
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage.tensors import load_snapshot, save_tensors, snapshot_name
from orchestrator.storage.work import Work, sharing, working
from orchestrator.training.journal import fetch, keep_trial, trials_in
from orchestrator.training.mending import mend
from orchestrator.training.record import FINISHED, TRIALS, Training, Trial
from orchestrator.training.task import Task, entries_of, train


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


def trial_task(config: Experiment, training: Training) -> Task:
    """What a training of a teacher trains."""
    return task_of(config, teacher_of(training))


def teacher_of(training: Training) -> str:
    """Name of the teacher that a training is of."""
    return str(training.settings["teacher"])


def key_for(config: Experiment, name: str, data: Data) -> str:
    """The teacher artifact's key."""
    teacher = config.teachers[name]
    task = task_of(config, name)
    clips = data.key if teacher.copies else data.recordings_key
    return key_of(basis(task_of, train, *entries_of(task)), task, teacher.ensemble, clips)


def run(context: Context, cuts: Sequence[Data]) -> dict[str, dict[str, Path]]:
    """Train the teachers that label and are not finished, on every cut; return their folders by cut and name."""
    folders = trained(context, cuts)
    return {data.cut: {name: folders[titled(name, data.cut)] for name in context.config.labelling} for data in cuts}


def trained(context: Context, cuts: Sequence[Data]) -> dict[str, Path]:
    """The folder of each teacher of each cut, by its title."""
    config, store = context.config, context.store
    keys = {titled(name, data.cut): key_for(config, name, data) for data in cuts for name in config.labelling}
    kept = {name: folder for name in keys if (folder := store.finished("teacher", keys[name])) is not None}
    for name, folder in kept.items():
        context.view.reused("teachers", name, [folder])
    if len(kept) < len(keys):
        announce_restart(context, "teachers", key_of(keys))
        with context.view.stage("teachers") as bar:
            # The folder is of all that are wanted, so that it stays the same while one after another is published.
            with (
                sharing(store, "teacher", [keys[name] for name in keys if name not in kept], bar.wait, bar.so_far),
                working(store, "teachers", key_of(keys), bar.wait, bar.so_far, fetch) as work,
            ):
                bar.made_in(work.folder, *kept.values())
                mend(store, work.folder)
                missing = {name: keys[name] for name in keys if store.finished("teacher", keys[name]) is None}
                until_ended(lambda: train_missing(context, cuts, missing, work, bar), store, work.folder)
                work.discard()
            bar.made_in(*(published(store, "teacher", keys[name]) for name in keys))
    return {name: published(store, "teacher", keys[name]) for name in keys}


def train_missing(context: Context, cuts: Sequence[Data], keys: dict[str, str], work: Work, bar: Bar) -> None:
    """Train teachers side by side and publish each. Raises UserError where one failed; the others are kept."""
    config, store = context.config, context.store
    recorded = {title_of(trial.training): trial for trial in trials_in(work.folder)}
    ended = {name: trial for name, trial in recorded.items() if name in keys and trial.training.state == FINISHED}
    trainings = [training for training in trainings_of(config, cuts) if title_of(training) in keys]
    left = [training for training in trainings if title_of(training) not in ended]
    if left:
        plan = Plan(
            context.run,
            store,
            work.folder,
            partial(trial_task, config),
            partial(votes, config),
            config.resources.device,
        )
        epochs = max(training.epochs for training in trainings)
        verdicts = Verdicts(Never(NoneSettings()), (epochs,), config.select_by, lambda number: True)
        for trial in ended.values():
            verdicts.enter(trial.training, trial.rows)
        run_trials(
            plan,
            verdicts,
            Recorder(plan, bar, verdicts, lambda: len(keys), epochs),
            cuts,
            config.resources,
            config={"trial": tune.grid_search([asdict(training) for training in left])},
        )
        fetch(store, work.folder)
    trials = [trial for trial in trials_in(work.folder) if title_of(trial.training) in keys]
    for trial in trials:
        if trial.training.state == FINISHED:
            key = keys[title_of(trial.training)]
            publish(context, trial, work, key)
            bar.made_in(*bar.status.folders, published(store, "teacher", key))
    failed = [trial for trial in trials if trial.training.failure]
    if failed:
        raise UserError(f"{failed[0].name} failed: {failed[0].training.failure}; the other teachers are kept")
    bar.about(", ".join(describe(trial) for trial in trials))


def trainings_of(config: Experiment, cuts: Sequence[Data]) -> list[Training]:
    """Every teacher on every cut, by number."""
    every = [(data.cut, name) for data in cuts for name in config.teachers]
    return [
        Training(
            "teachers",
            f"teacher-{titled(name, cut)}",
            number,
            config.teachers[name].recipe.epochs,
            {"teacher": name},
            cut=cut,
        )
        for number, (cut, name) in enumerate(every, 1)
    ]


def titled(name: str, cut: str) -> str:
    """Name of a teacher that is trained on a cut of the recordings."""
    return f"{name}-{cut}" if cut else name


def title_of(training: Training) -> str:
    """The title of the teacher that a training is of."""
    return titled(teacher_of(training), training.cut)


def votes(config: Experiment, training: Training) -> tuple[int, ...]:
    """The cycle ends whose snapshots vote."""
    return config.teachers[teacher_of(training)].ensemble


def describe(trial: Trial) -> str:
    """A teacher and what it has reached."""
    name, accuracy = title_of(trial.training), trial.rows[-1]["accuracy"]
    return name if accuracy is None else f"{name} {accuracy:.3f} on validation"


def publish(context: Context, trial: Trial, work: Work, key: str) -> None:
    """Keep the snapshots that vote, and the curves."""
    name = teacher_of(trial.training)
    with context.store.publish("teacher", key) as target:
        keep_trial(work.folder, trial, target)
        for epoch in context.config.teachers[name].ensemble:
            snapshot = load_snapshot(work.folder / TRIALS / trial.name / snapshot_name(epoch))
            save_tensors(target / snapshot_name(epoch), snapshot.model)
        record(target, work.seconds, name=name, cut=trial.training.cut)
