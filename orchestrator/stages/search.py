"""The search: many student trials over recipes; Optuna proposes, ASHA stops the worse ones at cycle ends."""

import math
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from models.seeding import derive
from orchestrator.artifacts import append_line, read_json, read_lines, write_json
from orchestrator.config import Choices, Experiment, Range, StudentSettings, key_of
from orchestrator.errors import UserError
from orchestrator.stages import FORMAT, Clock, Context, Data, record
from orchestrator.stages.tuning import Trial, Watch, concurrency, finite_rows, run_trials
from orchestrator.training import Task, best_row

SHORT = {
    "temperature": "T",
    "soft_weight": "soft",
    "scene_weight": "scene",
    "mixup_alpha": "mix",
    "learning_rate": "lr",
}


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
        return read_json(self.folder / "settings.json")[trial]

    def rows(self, trial: str) -> list[dict[str, Any]]:
        return [row for row in read_lines(self.folder / "metrics.jsonl") if row["trial"] == trial]


def student_task(config: Experiment, student: StudentSettings) -> Task:
    """Every student starts from the same seed, so that trials differ by their settings alone."""
    return Task(
        model=student.model,
        recipe=student.recipe,
        seed=derive(config.seed, "student"),
        taxonomy=config.corpus.taxonomy,
        decision=config.judged,
        copies=student.copies,
        labels=student.labels,
        ensemble_of=config.ensemble_of,
        threads=config.resources.cpus_per_trial,
    )


def trial_task(config: Experiment, settings: dict[str, Any]) -> Task:
    return student_task(config, config.search_recipe(settings))


def run(context: Context, data: Data, labels: Path) -> Search | None:
    """Search recipes; None where the experiment has no search."""
    config, store, search = context.config, context.store, context.config.search
    if search is None:
        return None
    parts = (config.search, config.student, config.judged, config.select_by, config.resources, config.seed)
    key = key_of(FORMAT, *parts, labels.name, data.key)
    folder = store.finished("search", key)
    if folder is not None:
        found = Search.read(folder)
        context.view.reused("search", f"best is {found.best}")
        return found
    with context.view.stage("search") as bar:
        work = store.work("search", key)
        clock = Clock(work)
        cycles, factor = len(search.cycle_ends), search.reduction_factor
        mode = "min" if config.select_by == "log_loss" else "max"
        try:
            trials = run_trials(
                work,
                "tune",
                {name: domain(values) for name, values in search.space.items()},
                tune.TuneConfig(
                    metric=config.select_by,
                    mode=mode,
                    num_samples=search.trials,
                    search_alg=OptunaSearch(seed=derive(config.seed, "search") % 2**32),
                    scheduler=AsyncHyperBandScheduler(
                        time_attr="rung",
                        grace_period=factor**search.grace_cycles,
                        # Above the last rung, so that rounding cannot drop it.
                        max_t=factor**cycles + 1,
                        reduction_factor=factor,
                    ),
                    max_concurrent_trials=concurrency(config.resources),
                    trial_name_creator=trial_name,
                    trial_dirname_creator=trial_name,
                ),
                {
                    "task_of": partial(trial_task, config),
                    "data": data.train,
                    "validation": data.validation,
                    "reduction_factor": factor,
                },
                config.resources,
                Watch(search.trials, search.cycle_ends[-1], config.select_by),
                bar,
                keep=1,
            )
        finally:
            seconds = clock.save()
        best = choose(trials, config)
        row = best_row(finite_rows(best.rows), config.select_by)
        full = sum(trial.epochs == search.cycle_ends[-1] for trial in trials)
        bar.detail = (
            f"{len(trials)} trials, {full} to the end; best {best.name}: {row['accuracy']:.3f} / {row['log_loss']:.3f}"
        )
        with store.publish("search", key) as target:
            write_json(target / "best.json", {"trial": best.name, "settings": best.settings})
            write_json(target / "settings.json", {trial.name: trial.settings for trial in trials})
            pq.write_table(
                pa.Table.from_pylist([describe(trial, config) for trial in trials]), target / "trials.parquet"
            )
            for trial in trials:
                for line in trial.rows:
                    append_line(target / "metrics.jsonl", {"trial": trial.name, **line})
            record(target, seconds, trials=len(trials))
        shutil.rmtree(work)
    folder = store.finished("search", key)
    assert folder is not None
    return Search.read(folder)


def choose(trials: list[Trial], config: Experiment) -> Trial:
    """The best among the trials that got furthest, by their last cycle end."""
    alive = [trial for trial in trials if trial.failure is None and finite_rows(trial.rows)]
    if not alive:
        reasons = sorted({trial.failure or "no finite result" for trial in trials})
        raise UserError(f"every trial failed; the first reason: {reasons[0]}")
    furthest = max(trial.epochs for trial in alive)
    finalists = {trial.name: finite_rows(trial.rows)[-1] for trial in alive if trial.epochs == furthest}
    winner = best_row(list(finalists.values()), config.select_by)
    return next(trial for trial in alive if finalists.get(trial.name) is winner)


def describe(trial: Trial, config: Experiment) -> dict[str, Any]:
    """A trial's line in trials.parquet: settings, how far it came, its last cycle end."""
    rows = finite_rows(trial.rows)
    last = rows[-1] if rows else {"accuracy": math.nan, "log_loss": math.nan}
    assert config.search is not None
    finished = trial.epochs == config.search.cycle_ends[-1]
    return {
        "trial": trial.name,
        "state": "failed" if trial.failure else "finished" if finished else "stopped",
        "epochs": trial.epochs,
        "accuracy": last["accuracy"],
        "log_loss": last["log_loss"],
        "seconds": trial.rows[-1]["seconds"] if trial.rows else 0.0,
        "failure": trial.failure or "",
        **{name: str(value) if isinstance(value, list | tuple) else value for name, value in trial.settings.items()},
    }


def domain(values: Range | Choices) -> Any:
    if isinstance(values, Choices):
        return tune.choice(list(values.choices))
    return tune.loguniform(values.low, values.high) if values.log else tune.uniform(values.low, values.high)


def trial_name(trial: Any) -> str:
    """Such as "student-03-T2.4-soft0.61-mix0.30": also the folder's name and the actor's on the dashboard."""
    number = trial.experiment_tag.partition("_")[0]  # Tune counts the suggestions there
    words = [f"student-{int(number):02d}"]
    for key, value in trial.config.items():
        name = key.partition(".")[2]
        text = (
            f"{value:.2g}"
            if isinstance(value, float)
            else "x".join(map(str, value))
            if isinstance(value, list | tuple)
            else str(value)
        )
        words.append(f"{SHORT.get(name, name)}{text}")
    return "-".join(words)
