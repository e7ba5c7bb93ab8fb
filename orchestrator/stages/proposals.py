"""The search as Ray Tune sees it: a searcher that names the next training, and a scheduler that stops trials."""

from collections.abc import Collection
from typing import Any

from ray.tune.search import Searcher

from orchestrator.stages.rounds import Rounds
from orchestrator.stages.tuning import proposal
from orchestrator.training.record import RUNNING, Trial


class Proposals(Searcher):
    """The trainings of a search, in the order of their numbers, without those that have ended."""

    def __init__(self, rounds: Rounds, recorded: Collection[Trial]) -> None:
        """`recorded` are the trials of earlier, interrupted runs."""
        super().__init__(metric=rounds.config.select_by, mode="min")
        self.rounds, self.number = rounds, 1
        self.recorded = {trial.training.number: trial.training for trial in recorded}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next training; None where it depends on what running ones have not reached yet: Tune asks again."""
        while self.number in self.recorded and self.recorded[self.number].state != RUNNING:
            self.number += 1
        training = self.recorded.get(self.number) or self.rounds.training(self.number)
        if training is None:
            return Searcher.FINISHED if self.number > self.rounds.total else None
        self.number += 1
        return proposal(training)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The scheduler reports to the verdicts."""

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing: the journals of the trials hold the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search resumes from its trials' journals")
