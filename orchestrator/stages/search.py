"""The search: many student trials over recipes; Optuna proposes, ASHA stops the worse ones at cycle ends."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.seeding import derive
from models.specs import LARGEST
from orchestrator.config.experiment import Experiment, StudentSettings, apply_settings
from orchestrator.config.keys import key_of
from orchestrator.config.space import SAMPLERS, STOPPING
from orchestrator.errors import UserError
from orchestrator.monitor.view import Bar
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record, reused
from orchestrator.stages.proposals import STUDY, Proposals, study_of, write_study
from orchestrator.stages.stopping import finite_rows
from orchestrator.stages.tuning import Plan, Recorder, run_trials
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.work import Work, working
from orchestrator.training.journal import FINISHED, RUNNING, TRIALS, Training, Trial, keep_trial, rows_of, trials_in
from orchestrator.training.metrics import best_row
from orchestrator.training.task import Task, entries_of, train


@dataclass(frozen=True)
class Search:
    """The search's result as later stages and reports use it."""

    folder: Path
    best: str  # name of the best trial
    settings: dict[str, Any]  # its settings

    @classmethod
    def read(cls, folder: Path) -> "Search":
        values = read_json(folder / "best.json")
        return cls(folder, values["trial"], values["settings"])

    def trials(self) -> list[dict[str, Any]]:
        return pq.read_table(self.folder / "trials.parquet").to_pylist()

    def settings_of(self, trial: str) -> dict[str, Any]:
        return Training.read(self.folder / TRIALS / trial).settings

    def rows(self, trial: str) -> list[dict[str, Any]]:
        return rows_of(self.folder / TRIALS / trial)


def student_task(config: Experiment, student: StudentSettings) -> Task:
    """Every student starts from the same seed, so that trials differ by their settings alone."""
    return Task(
        model=student.model,
        recipe=student.recipe,
        seed=derive(config.seed, "student"),
        taxonomy=config.corpus.taxonomy,
        decision=config.judged,
        copies=student.copies,
        largest=LARGEST,
        ensemble_of=config.ensemble_of,
        threads=config.resources.cpus_per_trial,
    )


def trial_task(config: Experiment, settings: dict[str, Any]) -> Task:
    return student_task(config, config.search_recipe(settings))


def run(context: Context, data: Data, labels: Path | None) -> Search | None:
    """Search recipes; None where the experiment has no search."""
    config, store, search = context.config, context.store, context.config.search
    if search is None:
        return None
    key = key_for(config, data, labels.name if labels else None)
    folder = reused(context, "search", key)
    if folder is not None:
        found = Search.read(folder)
        context.view.reused("search", f"best is {found.best}", [folder])
        return found
    announce_restart(context, "search", "search", key)
    with context.view.stage("search") as bar, working(store, "search", key, bar.wait, bar.so_far) as work:
        if store.finished("search", key) is None:  # another run may just have finished it
            bar.made_in(work.folder)
            train_missing(context, data, work, bar)
            publish(context, key, work, bar)
        bar.made_in(published(store, "search", key))
        work.discard()
    return Search.read(published(store, "search", key))


def key_for(config: Experiment, data: Data, labels: str | None) -> str:
    search = config.search
    assert search is not None
    entries = entries_of(student_task(config, config.student))
    entries += [SAMPLERS.find(SAMPLERS.name_of(search.sampler)).implementation]
    entries += [STOPPING.find(STOPPING.name_of(search.stopping)).implementation]
    code = basis(train, trial_task, apply_settings, Proposals, study_of, choose, describe, *entries)
    parts = (search, trial_task(config, {}), config.student.labels, config.select_by, config.seed)
    return key_of(code, *parts, labels, data.key)


def train_missing(context: Context, data: Data, work: Work, bar: Bar) -> None:
    """Run the trials that have not ended."""
    config, search = context.config, context.config.search
    assert search is not None
    recorded = trials_in(work.folder)
    ended = [trial for trial in recorded if trial.training.state != RUNNING]
    left = search.trials - len(ended)
    if not left:
        return
    plan = plan_of(context, work.folder)
    stopping: Any = STOPPING.implementation(search.stopping)(search.stopping, config)
    run_trials(
        plan,
        Recorder(plan, bar, search.trials, search.cycle_ends[-1], ended),
        data.train,
        data.validation,
        config.resources,
        num_samples=left,
        search_alg=Proposals(config, recorded, stopping),
        scheduler=stopping,
    )
    context.store.pull(work.folder)


def publish(context: Context, key: str, work: Work, bar: Bar) -> None:
    """Choose the best trial and keep what is worth keeping of all."""
    config, trials = context.config, trials_in(work.folder)
    best = choose(trials, config)
    row = finite_rows(best.rows)[-1]  # which is what it was chosen by
    full = sum(trial.training.state == FINISHED for trial in trials)
    reached = f"{row['accuracy']:.3f} / {row['log_loss']:.3f}"
    bar.about(f"{len(trials)} trials, {full} to the end; best {best.name}: {reached}")
    with context.store.publish("search", key) as target:
        for trial in trials:
            keep_trial(work.folder, trial.name, target)
        write_json(target / "best.json", {"trial": best.name, "settings": best.training.settings})
        pq.write_table(pa.Table.from_pylist([describe(trial) for trial in trials]), target / "trials.parquet")
        write_study(target / STUDY, study_of(config, trials), f"{config.name}-{key}")
        record(target, work.seconds, trials=len(trials))


def plan_of(context: Context, work: Path) -> Plan:
    config = context.config
    return Plan(
        context.run,
        context.store,
        work,
        partial(trial_task, config),
        no_snapshots,
        config.select_by,
    )


def no_snapshots(_settings: dict[str, Any]) -> tuple[int, ...]:
    """Of students in the search none is needed later: the recipe is trained again, over the full schedule."""
    return ()


def choose(trials: list[Trial], config: Experiment) -> Trial:
    """The best among the trials that got furthest, by their last cycle end."""
    alive = [trial for trial in trials if trial.training.failure is None and finite_rows(trial.rows)]
    if not alive:
        reasons = sorted({trial.training.failure or "no finite result" for trial in trials})
        raise UserError(f"every trial failed; the first reason: {reasons[0]}")
    furthest = max(trial.epochs for trial in alive)
    finalists = {trial.name: finite_rows(trial.rows)[-1] for trial in alive if trial.epochs == furthest}
    winner = best_row(list(finalists.values()), config.select_by)
    return next(trial for trial in alive if finalists.get(trial.name) is winner)


def describe(trial: Trial) -> dict[str, Any]:
    """A trial's line in trials.parquet: settings, how far it came, its last cycle end."""
    rows = finite_rows(trial.rows)
    last = rows[-1] if rows else {"accuracy": math.nan, "log_loss": math.nan}
    settings = trial.training.settings
    return {
        "trial": trial.name,
        "state": trial.training.state,
        "epochs": trial.epochs,
        "accuracy": last["accuracy"],
        "log_loss": last["log_loss"],
        "seconds": trial.rows[-1]["seconds"] if trial.rows else 0.0,
        "failure": trial.training.failure or "",
        **{name: str(value) if isinstance(value, list | tuple) else value for name, value in settings.items()},
    }
