"""Trainings as Ray Tune trials. What teachers and search have in common."""

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray import tune
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback

from models.fit import Diverged, Epoch, Snapshot
from orchestrator.artifacts import load_snapshot, save_snapshot
from orchestrator.config import Resources
from orchestrator.data import Split
from orchestrator.errors import UserError
from orchestrator.training import Task, rank, require_size, train
from orchestrator.view import Bar

SNAPSHOT = "snapshot.safetensors"


class FitTrial(tune.Trainable):
    """One training as a Tune trial: a step is an epoch, checkpoints are the snapshots of cycle ends.

    A class, because Ray's Actors page shows a class trainable by its `__repr__`, hence by the trial's name.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride] - Tune passes with_parameters' values here
        self,
        config: dict[str, Any],
        task_of: Callable[[dict[str, Any]], Task],
        data: Split,
        validation: Split,
        reduction_factor: int,
    ) -> None:
        self.task = replace(task_of(config), device="cuda" if ray.get_gpu_ids() else "cpu")
        self.data, self.validation = data, validation
        self.reduction_factor = reduction_factor
        self.resume: Snapshot | None = None
        self.epochs = None
        self.last: Epoch | None = None

    def __repr__(self) -> str:
        return self.trial_name

    def step(self) -> dict[str, Any]:
        try:
            if self.epochs is None:
                require_size(self.task)
                self.epochs = train(self.task, self.data, self.validation, self.resume)
            row, self.last = next(self.epochs)
        except (Diverged, UserError) as error:
            # A result like any other, only the worst possible: repeating it would end alike.
            return {"failure": str(error), "log_loss": math.inf, "accuracy": 0.0, "rung": 0, "done": True}
        cycles = sum(end <= row["epoch"] for end in self.task.recipe.cycle_ends)
        return row | {
            # ASHA's clock: it passes a rung exactly at each cycle end, whatever the cycles' lengths.
            "rung": self.reduction_factor**cycles if cycles else 0,
            "should_checkpoint": row["cycle_end"],
            "done": row["epoch"] == self.task.recipe.epochs,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self.last is not None:
            save_snapshot(Path(checkpoint_dir) / SNAPSHOT, self.last.snapshot())

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        assert isinstance(checkpoint, str)
        file = Path(checkpoint) / SNAPSHOT
        self.resume = load_snapshot(file) if file.exists() else None
        self.epochs = None


@dataclass(frozen=True)
class Trial:
    """A trial that ended."""

    name: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]  # one per epoch
    snapshots: dict[int, Path]  # epoch -> file
    failure: str | None

    @property
    def epochs(self) -> int:
        return self.rows[-1]["epoch"] if self.rows else 0


ROW = ("epoch", "loss", "learning_rate", "accuracy", "log_loss", "cycle_end", "clips_per_second", "seconds")


class Watch(tune.Callback):
    """Keeps the view up to date. Tune pickles it with the experiment, so it cannot hold the bar itself."""

    bar: ClassVar[Bar]
    complete: ClassVar[bool]  # whether every trial has come to its end

    def __init__(self, trials: int, epochs: int, metric: str) -> None:
        self.trials, self.epochs, self.metric = trials, epochs, metric
        self.done: dict[str, int] = {}
        self.ended: set[str] = set()
        self.best: dict[str, Any] | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.done[trial.trial_id] = result.get("epoch", 0)
        judged = result.get("cycle_end") and result["accuracy"] is not None
        if judged and (self.best is None or rank(result, self.metric) < rank(self.best, self.metric)):
            self.best = {"accuracy": result["accuracy"], "log_loss": result["log_loss"], "name": str(trial)}
        self.show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done[trial.trial_id] = self.epochs
        self.ended.add(trial.trial_id)
        self.show()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        Watch.complete = len(trials) == self.trials and all(trial.is_finished() for trial in trials)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def show(self) -> None:
        running = len(self.done) - len(self.ended)
        best = (
            f", best {self.best['accuracy']:.3f} / {self.best['log_loss']:.3f} ({self.best['name']})"
            if self.best
            else ""
        )
        detail = f"{len(self.ended)} of {self.trials} done, {running} running{best}"
        self.bar.update(sum(self.done.values()), self.trials * self.epochs, detail)


def run_trials(
    folder: Path,
    name: str,
    param_space: dict[str, Any],
    tune_config: tune.TuneConfig,
    parameters: dict[str, Any],
    resources: Resources,
    watch: Watch,
    bar: Bar,
    keep: int | None,
) -> list[Trial]:
    """Run, or go on with, the Tune experiment `name` below `folder`. `keep`: snapshots a trial, None for all.

    Raises KeyboardInterrupt after Ctrl-C, once Tune has saved the experiment's state.
    """
    trainable = tune.with_resources(
        tune.with_parameters(FitTrial, **parameters),
        {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial},
    )
    # Tune adds a TensorBoard logger of its own, whose thread writes a traceback when an interrupted driver ends.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    run_config = tune.RunConfig(
        name=name,
        storage_path=str(folder),
        callbacks=[watch, CSVLoggerCallback(), JsonLoggerCallback()],
        verbose=0,
        failure_config=tune.FailureConfig(max_failures=1),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=keep),
    )
    Watch.bar, Watch.complete = bar, True  # a restored experiment with nothing left to do makes no step
    path = str(folder / name)
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, trainable, resume_errored=True, param_space=param_space)
    else:
        tuner = tune.Tuner(trainable, param_space=param_space, tune_config=tune_config, run_config=run_config)
    handler = signal.getsignal(signal.SIGINT)
    try:
        results = tuner.fit()
    finally:
        # Tune leaves its own handler behind, which swallows the next Ctrl-C, whatever it is meant for.
        signal.signal(signal.SIGINT, handler)
    if not Watch.complete:
        raise KeyboardInterrupt
    return [ended(result) for result in results]


def ended(result: tune.Result) -> Trial:
    frame = result.metrics_dataframe
    records = [] if frame is None else frame.to_dict("records")
    # The result of a training that diverged has no epoch; pandas fills its columns, and any None, with NaN.
    rows = [{name: present(row[name]) for name in ROW} for row in records if present(row.get("epoch")) is not None]
    rows = [{**row, "epoch": int(row["epoch"]), "cycle_end": bool(row["cycle_end"])} for row in rows]
    failure = (result.metrics or {}).get("failure")
    if result.error is not None:
        failure = str(result.error).strip().splitlines()[-1]
    files = {}
    for checkpoint, metrics in result.best_checkpoints or []:
        if "epoch" in metrics:  # not the result of a training that diverged
            files[metrics["epoch"]] = Path(checkpoint.path) / SNAPSHOT
    return Trial(Path(result.path).name, dict(result.config or {}), rows, dict(sorted(files.items())), failure)


def present(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def concurrency(resources: Resources) -> int:
    """How many trials the cluster can run at once. Raises UserError where it cannot run a single one."""
    total = ray.cluster_resources()
    fits = [int(total.get("CPU", 0) // resources.cpus_per_trial)]
    if resources.gpus_per_trial:
        fits.append(int(total.get("GPU", 0) / resources.gpus_per_trial))
    if min(fits) < 1:
        raise UserError(
            f"a trial needs {resources.cpus_per_trial} CPUs and {resources.gpus_per_trial:g} GPUs; the cluster has "
            f"{total.get('CPU', 0):g} and {total.get('GPU', 0):g}; change resources"
        )
    return min(fits)


def finite_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of cycle ends, where trials are compared."""
    return [row for row in rows if row["cycle_end"] and math.isfinite(row["log_loss"])]
