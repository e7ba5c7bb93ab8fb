"""What the driver records of trials, and shows of them, while they run."""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError

from orchestrator.monitor.view import Bar
from orchestrator.stages.trainable import Plan, reason_of
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage.behind import Behind
from orchestrator.training.best import Standing, standing_of, winner
from orchestrator.training.record import FAILED, FINISHED, RUNNING, STOPPED, State, Training

log = logging.getLogger("stillhouse")
DEATHS = (RayActorError, NodeDiedError, WorkerCrashedError, OutOfMemoryError)
WAITING = 5.0  # seconds without a running trial, longer than one trial takes to follow another
PROCESSES = 8  # of one trial that may die, with their nodes or alone, in one run


class Recorder(tune.Callback):
    """Records how each trial ends, and updates the progress view. No event waits for the storage."""

    def __init__(self, plan: Plan, bar: Bar, verdicts: Verdicts, total: Callable[[], int], epochs: int) -> None:
        """`total` is the number of trials that there will be, of `epochs` each; `verdicts` know the earlier runs' ones.

        Trials of the last round are shown, but are not candidates for the best trial.
        """
        self.plan, self.bar, self.verdicts, self.total, self.epochs = plan, bar, verdicts, total, epochs
        self.done: dict[str, int] = {}  # running trials: epochs
        self.running_at = time.monotonic()  # when a trial was running last
        self.ended = sum(trial.training.state != RUNNING for trial in verdicts.trials.values())
        self.outage: str | None = None
        self.has_given_up_early = False  # whether the outage is a lost process that Tune did not replace
        self.standings: dict[int, Standing | None] = {}  # of the first round's trials, by number
        self.leader: Standing | None = None  # the best of them
        self.behind = Behind()
        self.remarks = set[str]()  # of processes that train several trials, as they were said

    def __reduce__(self) -> Any:
        return tune.Callback, ()  # Tune pickles callbacks with an experiment that nobody restores

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Show that no trial runs, where that lasts."""
        if self.done:
            self.running_at = time.monotonic()
        elif self.is_waiting:
            self.show()

    @property
    def is_waiting(self) -> bool:
        """Whether trials are left and none has run for some seconds, for want of a place or while a process starts."""
        return not self.done and self.ended < self.total() and time.monotonic() - self.running_at > WAITING

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done.setdefault(str(trial), 0)
        self.show()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial whose process was lost waits for another one."""
        self.done.pop(str(trial), None)
        self.show()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        """Show the trial's progress."""
        self.done[str(trial)] = result["epoch"]
        if (remark := result.get("remark")) and remark not in self.remarks:
            self.remarks.add(remark)
            log.warning("%s", remark)
        with self.outages():
            self.behind.check()
        self.show()

    @property
    def best(self) -> Standing | None:
        """The best trial so far, by the rule that finalists are chosen by."""
        while self.verdicts.changed:
            number = self.verdicts.changed.pop()
            trial = self.verdicts.counted(self.verdicts.trials[number])
            if trial.training.is_first:
                self.standings[number] = standing_of(trial)
                self.leader = None
        if self.leader is None:
            self.leader = winner((standing for _, standing in sorted(self.standings.items())), self.verdicts.metric)
        return self.leader

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the trial as finished, stopped or failed; an OSError or UserError ends the experiment."""
        result = trial.last_result
        if "outage" in result:
            self.stop(result["outage"])
            return
        state = state_of(result, trial.config["trial"]["epochs"])
        ended = replace(Training(**trial.config["trial"]), state=state, failure=result.get("failure"))
        self.end(trial, partial(ended.write, self.plan.store, self.plan.work))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose process raised an error; one whose process was lost can be resumed.

        Tune may give a trial up at the first loss: it counts two where two calls were under way.
        """
        text = Path(trial.error_file).read_text() if trial.error_file else "its process died"
        last = text.strip().splitlines()[-1]
        log.error("%s failed: %s", trial, text)
        if isinstance(error_of(trial), DEATHS):  # the node or the process failed, not the trial
            self.has_given_up_early = trial.num_failures <= PROCESSES
            self.stop(f"{trial}: its process was lost {trial.num_failures} times ({last})")
            return
        training = Training(**trial.config["trial"])
        self.verdicts.end(training.number, FAILED)
        self.end(trial, partial(training.fail, self.plan.store, self.plan.work, last, text))

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

    def finish(self) -> None:
        """Wait until everything is written; what fails counts as an outage."""
        try:
            self.behind.finish()
        except OSError as error:
            self.outage = self.outage or reason_of(error)

    def end(self, trial: Any, write: Callable[[], None]) -> None:
        """Count a trial that has ended; `write` records it."""
        with self.outages():
            self.behind.write(str(trial), write)
        self.done.pop(str(trial), None)
        self.ended += 1
        self.show()

    def show(self) -> None:
        """Update the progress line."""
        reached, total = self.best, self.total()
        best = f", best {reached.accuracy:.3f} / {reached.log_loss:.3f} ({reached.trial})" if reached else ""
        stopped = f" ({len(self.verdicts.stopped)} stopped early)" if self.verdicts.stopped else ""
        now = "waiting for the cluster" if self.is_waiting else f"{len(self.done)} running"
        detail = f"{self.ended} of {total} done{stopped}, {now}{best}"
        epochs = total * self.epochs
        self.bar.update(min(self.ended * self.epochs + sum(self.done.values()), epochs), epochs, detail)


def error_of(trial: Any) -> Exception | None:
    """What ended a trial, as Tune has kept it beside its text."""
    return cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()) if trial.pickled_error_file else None


def state_of(result: Mapping[str, Any], epochs: int) -> State:
    """How a trial has ended, by its last result and the epochs that it was to have."""
    if "failure" in result:
        return FAILED
    return FINISHED if result["epoch"] == epochs else STOPPED
