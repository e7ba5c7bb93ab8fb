"""Which trial of the search stops where. Verdicts go by the trials' numbers, never by the time of their reports.

At a rung, a trial is compared with those of the trials before it that reached the rung, which is itself decided so.
Nobody waits: a trial trains on, and when the last of its references is known the verdict falls; what it has trained
beyond the rung where it stops is cut off. So the same settings, seed and data give the same verdicts, however many
workers there are and whatever is interrupted.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.stages.stopping import StoppingRule
from orchestrator.training.best import is_measured, rank
from orchestrator.training.record import FAILED, RUNNING, STOPPED, State, Training, Trial
from orchestrator.training.rows import Metric, Row


@dataclass
class Rung:
    """What trials reached at one cycle end, in the order of their numbers, as far as it is decided for all of them."""

    epoch: int
    decided: int = 0  # the trials up to this number have reached the rung, or have stopped before it
    numbers: list[int] = field(default_factory=list)  # of those that reached it
    values: list[float] = field(default_factory=list)  # what these reached

    def references(self, number: int) -> list[float] | None:
        """What the trials before that number reached; None: it is not decided for all of them."""
        return self.values[: bisect_left(self.numbers, number)] if self.decided >= number - 1 else None


class Verdicts:
    """All trials of a search that have begun, and the verdicts on them."""

    def __init__(
        self, rule: StoppingRule, cycle_ends: Sequence[int], metric: Metric, is_exempt: Callable[[int], bool]
    ) -> None:
        """`is_exempt` names, by number, the trials that are never stopped."""
        self.rule, self.is_exempt = rule, is_exempt
        self.rungs = tuple(map(Rung, rule.rungs(cycle_ends)))
        self.metric: Metric = metric
        self.first = self.rungs[0].epoch if self.rungs else cycle_ends[0]  # what a proposal knows of who trains
        self.trials: dict[int, Trial] = {}
        self.passed: Counter[int] = Counter()  # number -> rungs at which the trial was judged and goes on
        self.stopped: dict[int, int] = {}  # number -> epoch of the rung where it stops
        self.changed: set[int] = set()  # trials of which something else counts than when they were taken out here

    def enter(self, training: Training, rows: Sequence[Row] = ()) -> None:
        """A trial begins, or has rows of an earlier, interrupted run."""
        self.trials[training.number] = Trial(training, [row for row in rows if row["cycle_end"]])
        self.settle(training.number)

    def report(self, number: int, row: Row) -> None:
        """A trial has reached a cycle end; one that was resumed may report its last one again."""
        trial = self.trials[number]
        if row["cycle_end"] and row["epoch"] > trial.epochs:
            self.trials[number] = replace(trial, rows=[*trial.rows, row])
            self.settle(number)

    def end(self, number: int, state: State) -> None:
        """Count a trial as ended in that state."""
        trial = self.trials[number]
        self.trials[number] = replace(trial, training=replace(trial.training, state=state))
        self.settle(number)

    def settle(self, number: int) -> None:
        """Give every verdict that is due since a trial has changed; one that is given never changes."""
        due = [number]
        self.changed.add(number)
        while due:
            self.judge(due.pop())
            for place, rung in enumerate(self.rungs):
                while (values := self.decided(rung.decided + 1, place)) is not None:
                    rung.decided += 1
                    rung.numbers += [rung.decided] * len(values)
                    rung.values += values
                    due.append(rung.decided + 1)  # whose references are now complete

    def judge(self, number: int) -> None:
        """Give the verdicts on a trial that are due."""
        while number in self.trials and number not in self.stopped and self.passed[number] < len(self.rungs):
            rung = self.rungs[self.passed[number]]
            value = self.value(number, rung.epoch)
            references = [] if self.is_exempt(number) else rung.references(number)
            if value is None or references is None:
                return
            if not self.is_exempt(number) and self.rule.stops(value, references):
                self.stopped[number] = rung.epoch
                self.changed.add(number)
            else:
                self.passed[number] += 1

    def decided(self, number: int, place: int) -> list[float] | None:
        """What a trial has reached at that rung of all, or nothing where it has stopped before; None: not known yet."""
        epoch = self.rungs[place].epoch
        if number not in self.trials:
            return None
        if self.stopped.get(number, epoch) < epoch:
            return []
        value = self.value(number, epoch)
        return None if value is None or self.passed[number] < place else [value]

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
