"""Which trial of the search stops where. Verdicts go by the trials' numbers, never by the time of their reports.

At a rung, a trial is compared with those of the trials before it that reached the rung, which is itself decided so.
Nobody waits: a trial trains on, and when the last of its references is known the verdict falls; what it has trained
beyond the rung where it stops is cut off. So the same settings, seed and data give the same verdicts, however many
workers there are and whatever is interrupted.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.stages.stopping import StoppingRule
from orchestrator.training.best import is_measured, rank
from orchestrator.training.record import FAILED, RUNNING, STOPPED, State, Training, Trial
from orchestrator.training.rows import Metric, Row


class Verdicts:
    """All trials of a search that have begun, and the verdicts on them."""

    def __init__(
        self, rule: StoppingRule, cycle_ends: Sequence[int], metric: Metric, is_exempt: Callable[[int], bool]
    ) -> None:
        """`is_exempt` names, by number, the trials that are never stopped."""
        self.rule, self.rungs, self.is_exempt = rule, tuple(rule.rungs(cycle_ends)), is_exempt
        self.metric: Metric = metric
        self.first = self.rungs[0] if self.rungs else cycle_ends[0]  # what a proposal may know of a trial that trains
        self.trials: dict[int, Trial] = {}
        self.passed: Counter[int] = Counter()  # number -> rungs at which the trial was judged and goes on
        self.stopped: dict[int, int] = {}  # number -> epoch of the rung where it stops

    def enter(self, training: Training, rows: Sequence[Row] = ()) -> None:
        """A trial begins, or has rows of an earlier, interrupted run."""
        self.trials[training.number] = Trial(training, [row for row in rows if row["cycle_end"]])
        self.settle()

    def report(self, number: int, row: Row) -> None:
        """A trial has reached a cycle end; one that was resumed may report its last one again."""
        trial = self.trials[number]
        if row["cycle_end"] and row["epoch"] > trial.epochs:
            self.trials[number] = replace(trial, rows=[*trial.rows, row])
            self.settle()

    def end(self, number: int, state: State) -> None:
        """Count a trial as ended in that state."""
        trial = self.trials[number]
        self.trials[number] = replace(trial, training=replace(trial.training, state=state))
        self.settle()

    def settle(self) -> None:
        """Give every verdict that is due; one that is given never changes."""
        for number in sorted(self.trials):
            for rung in self.rungs[self.passed[number] :]:
                if number in self.stopped or not self.judge(number, rung):
                    break

    def judge(self, number: int, rung: int) -> bool:
        """Give the verdict on a trial at a rung; False where it is not due."""
        value = self.value(number, rung)
        if value is None:
            return False
        if not self.is_exempt(number):
            references = self.references(number, rung)
            if references is None:
                return False
            if self.rule.stops(value, references):
                self.stopped[number] = rung
                return True
        self.passed[number] += 1
        return True

    def references(self, number: int, rung: int) -> list[float] | None:
        """What the trials before it reached at a rung, without those that stopped earlier; None: not all are known."""
        values = []
        for other in range(1, number):
            if other not in self.trials:
                return None
            if self.stopped.get(other, rung) < rung:
                continue
            value = self.value(other, rung)
            if value is None or self.passed[other] < self.rungs.index(rung):
                return None
            values.append(value)
        return values

    def value(self, number: int, epoch: int) -> float | None:
        """What a trial reached at a cycle end, the lower, the better: infinite where it failed; None: not there yet."""
        trial = self.trials[number]
        for row in trial.rows:
            if row["epoch"] == epoch:
                return rank(row, self.metric) if is_measured(row) else math.inf
        return math.inf if trial.training.state == FAILED else None

    def is_known(self, number: int, epoch: int) -> bool:
        """Whether it is known what a trial has reached at a cycle end."""
        return number in self.trials and self.value(number, epoch) is not None

    def is_settled(self, number: int) -> bool:
        """Whether nothing more of a trial will count: it has ended, and all verdicts on it have fallen."""
        if number in self.stopped:
            return True
        ended = number in self.trials and self.trials[number].training.state != RUNNING
        return ended and self.passed[number] == len(self.rungs)

    def counted(self, trial: Trial) -> Trial:
        """What counts of a trial: not what it has trained, or how it failed, beyond the rung where it stops."""
        number = trial.training.number
        return self.until(trial, self.stopped[number]) if number in self.stopped else trial

    def until(self, trial: Trial, epoch: int) -> Trial:
        """A trial as if it had been stopped at a cycle end, whatever became of it later; failed if it was by then."""
        if self.value(trial.training.number, epoch) == math.inf:
            return replace(trial, training=replace(trial.training, state=FAILED))
        training = replace(trial.training, state=STOPPED, failure=None)
        return Trial(training, [row for row in trial.rows if row["epoch"] <= epoch])
