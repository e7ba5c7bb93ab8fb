"""Trainings as Ray Tune trials. What teachers and search have in common.

Tune stores nothing: every training's rows and snapshots are in its journal. To resume after any failure, a run starts
the trials that have not ended, from their snapshots.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from models.fit import Diverged
from orchestrator.cluster.connection import concurrency
from orchestrator.config.experiment import Resources
from orchestrator.errors import UserError
from orchestrator.monitor.telemetry import Gauges
from orchestrator.monitor.tensorboard import to_tensorboard
from orchestrator.monitor.view import Bar
from orchestrator.storage.scratch import tune_folder
from orchestrator.storage.store import Store
from orchestrator.storage.work import require_versions
from orchestrator.training.best import Standing, standing, standing_of, winner
from orchestrator.training.data import Split
from orchestrator.training.journal import Journal
from orchestrator.training.record import FAILED, FINISHED, RUNNING, STOPPED, TRIALS, Settings, State, Training, Trial
from orchestrator.training.rows import Metric, Row
from orchestrator.training.task import Oversized, Task, require_size, train

log = logging.getLogger("stillhouse")
DEATHS = ("ActorDiedError", "ActorUnavailableError", "NodeDiedError", "WorkerCrashedError", "OutOfMemoryError")  # Ray's
STEP = 2.0  # seconds: every step costs the driver some milliseconds, which short epochs cannot spare
PROCESSES = 8  # of one trial that may die, with their nodes or alone, in one run


@dataclass(frozen=True)
class Plan:
    """What the trainings of a stage have in common."""

    run: str  # name of the run's folder, for the metrics
    store: Store
    work: Path
    task_of: Callable[[Settings], Task]
    keep_of: Callable[[Settings], tuple[int, ...]]  # cycle ends whose snapshots are needed later
    metric: Metric


class FitTrial(tune.Trainable):
    """One training as a Tune trial: a step is as many epochs as fit into a moment, but ends where a cycle ends.

    A class, because Ray's Actors page shows a class trainable by its `__repr__`, hence by the trial's name.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride] - Tune passes with_parameters' values here
        self, config: dict[str, Any], plan: Plan, data: Split, validation: Split
    ) -> None:
        """Called by Tune once in every process of the trial."""
        self.plan, self.data, self.validation = plan, data, validation
        self.training = Training(**config["trial"])
        self.gauges = Gauges(plan.run, self.training.stage, self.training.trial)
        self.epochs = None

    def __repr__(self) -> str:
        return self.trial_name

    def step(self) -> dict[str, Any]:
        """Train the next epochs. Tune's result is the last row, or a failure that a retry would repeat."""
        try:
            return self.next_epochs()
        except (Diverged, Oversized) as error:
            # A result like any other, only the worst possible: repeating it would end alike.
            return {**WORST, "failure": str(error)}
        except (OSError, UserError) as error:  # not the recipe's fault: the experiment ends
            return {**WORST, "outage": reason_of(error)}

    def next_epochs(self) -> dict[str, Any]:
        """Train the next epochs. After a resume, first report the snapshot's epoch again, for ASHA."""
        started = time.monotonic()
        if self.epochs is None:
            task = self.plan.task_of(self.training.settings)
            task = replace(task, device="cuda" if ray.get_gpu_ids() else "cpu")
            require_size(task)
            require_versions(self.plan.store, self.plan.work)
            folder = self.plan.work / TRIALS / self.training.trial
            keep = self.plan.keep_of(self.training.settings)
            self.journal = Journal(self.plan.store, folder, keep, self.plan.metric)
            snapshot = self.journal.resume()
            self.epochs = train(task, self.data, self.validation, snapshot)
            if self.journal.rows:
                return self.result(self.journal.rows[-1])
        for row, epoch in self.epochs:
            self.journal.add(row, epoch, last=row["epoch"] == self.training.epochs)
            self.gauges.report(row)
            if row["cycle_end"] or time.monotonic() - started > STEP:
                break
        return self.result(self.journal.rows[-1])

    def result(self, row: Row) -> dict[str, Any]:
        return {**row, "done": row["epoch"] == self.training.epochs}


def reason_of(error: OSError | UserError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'storage'}: {error.strerror}"
    return str(error)


WORST = {"log_loss": math.inf, "accuracy": 0.0, "epoch": 0, "cycle_end": False, "done": True}


class Recorder(tune.Callback):
    """Records how each trial ends, and updates the progress view."""

    def __init__(
        self, plan: Plan, bar: Bar, trials: int, epochs: int, ended: Sequence[Trial], interrupted: Sequence[Trial] = ()
    ) -> None:
        """Of `trials` in all, `ended` are those that ended in an earlier run, `interrupted` those that are resumed."""
        self.plan, self.bar, self.trials, self.epochs = plan, bar, trials, epochs
        self.done: dict[str, int] = {}  # running trials: epochs
        self.ended = len(ended)
        self.stopped = sum(trial.training.state == STOPPED for trial in ended)
        # By number: of equals the earlier one is the best.
        self.standings = {trial.training.number: standing_of(trial) for trial in (*ended, *interrupted)}
        self.outage: str | None = None

    def __reduce__(self) -> Any:
        return tune.Callback, ()  # Tune pickles callbacks with an experiment that nobody restores

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done.setdefault(str(trial), 0)
        with self.outages():
            self.record(trial, RUNNING)
        self.show()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        """Show the trial's progress; at a cycle end, update its TensorBoard files."""
        self.done[str(trial)] = result["epoch"]
        self.compare(trial, result)
        if result["cycle_end"]:
            with self.outages():
                to_tensorboard(self.plan.store, self.plan.run, self.plan.work, str(trial))
        self.show()

    def compare(self, trial: Any, row: Row) -> None:
        """Note how the trial stands, at a cycle end."""
        reached = standing(str(trial), [row])
        if reached is not None:
            self.standings[trial.config["trial"]["number"]] = reached

    @property
    def best(self) -> Standing | None:
        """The best trial so far, by the rule that the search chooses by."""
        return winner((self.standings[number] for number in sorted(self.standings)), self.plan.metric)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the trial as finished, stopped or failed; an OSError or UserError ends the experiment."""
        result = trial.last_result
        if "outage" in result:
            self.stop(result["outage"])
            return
        with self.outages():
            if "failure" in result:
                self.record(trial, FAILED, result["failure"])
            else:
                is_whole = result["epoch"] == trial.config["trial"]["epochs"]
                self.record(trial, FINISHED if is_whole else STOPPED)
                self.stopped += not is_whole
            self.end(trial, "failure" in result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose process raised an error; one whose process was lost too often can be resumed later."""
        text = Path(trial.error_file).read_text() if trial.error_file else "its process died"
        last = text.strip().splitlines()[-1]
        log.error("%s failed: %s", trial, text)
        if any(f"ray.exceptions.{death}" in text for death in DEATHS):
            # The node or the process failed, not the trial: another run can resume it.
            self.stop(f"{trial}: its process was lost {PROCESSES + 1} times ({last})")
            return
        with self.outages():
            Training(**trial.config["trial"]).fail(self.plan.store, self.plan.work, last, text)
            self.end(trial, failed=True)

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Where the storage fails in the block, the experiment is stopped: Tune would only log it, and go on."""
        try:
            yield
        except OSError as error:
            self.stop(reason_of(error))

    def stop(self, outage: str) -> None:
        """End the experiment as Ctrl-C does."""
        if self.outage is None:
            self.outage = outage
            signal.raise_signal(signal.SIGINT)

    def record(self, trial: Any, state: State, failure: str | None = None) -> None:
        training = Training(**trial.config["trial"])
        replace(training, state=state, failure=failure).write(self.plan.store, self.plan.work)

    def end(self, trial: Any, failed: bool = False) -> None:
        """Count a trial that has ended."""
        self.done.pop(str(trial), None)
        if failed:
            self.standings[trial.config["trial"]["number"]] = None
        self.ended += 1
        self.show()

    def show(self) -> None:
        """Update the progress line."""
        reached = self.best
        best = f", best {reached.accuracy:.3f} / {reached.log_loss:.3f} ({reached.trial})" if reached else ""
        stopped = f" ({self.stopped} stopped early)" if self.stopped else ""
        detail = f"{self.ended} of {self.trials} done{stopped}, {len(self.done)} running{best}"
        total = self.trials * self.epochs
        self.bar.update(min(self.ended * self.epochs + sum(self.done.values()), total), total, detail)


def run_trials(
    plan: Plan,
    recorder: Recorder,
    data: Split,
    validation: Split,
    resources: Resources,
    **options: Any,
) -> None:
    """Run trials on Tune until each has ended. `options` are tune.run's, such as the searcher and the scheduler.

    Raises KeyboardInterrupt after Ctrl-C, UserError where the storage or a node failed; what is done is kept.
    """
    trainable = tune.with_resources(
        tune.with_parameters(FitTrial, plan=plan, data=data, validation=validation),
        {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial},
    )
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the journals record everything
    handler = signal.getsignal(signal.SIGINT)
    with tune_folder() as scratch:
        try:
            tune.run(
                trainable,
                name=plan.work.name,
                storage_path=str(scratch),
                callbacks=[recorder],
                verbose=0,
                max_failures=PROCESSES,
                max_concurrent_trials=concurrency(resources),
                trial_name_creator=name_of,
                trial_dirname_creator=name_of,
                raise_on_failed_trial=False,
                **options,
            )
        finally:
            # Tune leaves its own handler behind, which would ignore the next Ctrl-C.
            signal.signal(signal.SIGINT, handler)
    if recorder.outage:
        raise UserError(f"{recorder.outage}; what is finished is kept, the same command goes on from there")
    if recorder.ended < recorder.trials:  # Tune itself calls the trials of an interrupted experiment finished
        raise KeyboardInterrupt


def name_of(trial: Any) -> str:
    return trial.config["trial"]["trial"]


def proposal(training: Training) -> dict[str, Any]:
    """A training as the configuration of a Tune trial."""
    return {"trial": asdict(training)}
