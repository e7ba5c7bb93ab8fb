"""A search replayed on known results: its own verdicts and proposals, trainings that only take time on paper.

What a training reaches at each cycle end comes from a function, how long its epochs take from another. Drivers can die
on the way: what their journals held is all that the next one knows.
"""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ray.tune.search import Searcher

from orchestrator.config.experiment import Experiment
from orchestrator.stages.proposals import Proposals
from orchestrator.stages.rounds import Rounds
from orchestrator.stages.search import recalled
from orchestrator.training.record import FAILED, FINISHED, STOPPED, State, Training, Trial
from orchestrator.training.rows import Row

type Results = Callable[[Training], Mapping[int, float | None]]
"""Cycle end -> log loss of a training; None where it fails before that. Asked once a training, in their order."""

type Clock = Callable[[Training, int], float]
"""Seconds of a training until a cycle end, from the cycle end before."""


@dataclass
class Replay:
    """One search; `journals` are what its trials have written so far, by number."""

    config: Experiment
    results: Results
    clock: Clock
    workers: int
    journals: dict[int, Trial] = field(default_factory=dict)
    reached: dict[int, Mapping[int, float | None]] = field(default_factory=dict)  # by number
    epochs: int = 0  # that were trained, over all interruptions
    ended: list[tuple[int, int]] = field(default_factory=list)  # epochs until then, number of the trial that ended
    seconds: float = 0.0

    def run(self, dies_after: float | None = None) -> bool:
        """Search until the end, or until the driver dies after so many seconds; whether it came to the end."""
        verdicts = recalled(self.config, self.journals.values())
        rounds = Rounds(self.config, verdicts)
        proposals = Proposals(rounds, list(self.journals.values()))
        events: list[tuple[float, int, int]] = []  # (when, number, cycle end that is reached then)
        now, finished = 0.0, False

        def begin(number: int) -> None:
            ends = self.config.search.cycle_ends if self.config.search else ()
            left = [end for end in ends if end > self.journals[number].epochs]
            heapq.heappush(events, (now + self.clock(self.journals[number].training, left[0]), number, left[0]))

        while True:
            while not finished and len(events) < self.workers:
                suggested = proposals.suggest("")
                if not isinstance(suggested, dict):
                    finished = suggested == Searcher.FINISHED
                    break
                training = Training(**suggested["trial"])
                if training.number not in verdicts.trials:
                    verdicts.enter(training)
                if training.number not in self.journals:
                    self.journals[training.number] = Trial(training, [])
                    self.reached[training.number] = self.results(training)
                begin(training.number)
            if not events:
                assert finished, "the search waits for nothing"
                self.seconds += now
                return True
            when, number, end = heapq.heappop(events)
            if dies_after is not None and when > dies_after:
                self.seconds += dies_after
                return False
            now = when
            trial = self.journals[number]
            reached = self.reached[number][end]
            if reached is None:
                self.end(number, FAILED)
                verdicts.end(number, FAILED)
                continue
            self.epochs += end - trial.epochs
            row = row_of(end, reached)
            self.journals[number] = replace(trial, rows=[*trial.rows, row])
            verdicts.report(number, row)
            if end == trial.training.epochs or number in verdicts.stopped:
                state: State = FINISHED if end == trial.training.epochs else STOPPED
                self.end(number, state)
                verdicts.end(number, state)
            else:
                begin(number)

    def end(self, number: int, state: State) -> None:
        self.ended.append((self.epochs, number))
        trial = self.journals[number]
        self.journals[number] = replace(trial, training=replace(trial.training, state=state))

    def counted(self) -> list[Trial]:
        """What counts of every trial."""
        verdicts = recalled(self.config, self.journals.values())
        assert all(verdicts.is_settled(number) for number in verdicts.trials)
        return [verdicts.counted(trial) for _, trial in sorted(self.journals.items())]


def row_of(epoch: int, log_loss: float) -> Row:
    """A cycle end of which only the log loss matters."""
    return Row(
        epoch=epoch,
        loss=log_loss,
        learning_rate=0.0,
        accuracy=1 / (1 + log_loss),
        log_loss=log_loss,
        cycle_end=True,
        clips_per_second=0.0,
        seconds=float(epoch),
    )
