"""The result of a search over several objectives: each recipe's metrics and costs, and which lie on the front."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.config.experiment import Experiment
from orchestrator.stages.costs import cost_of
from orchestrator.stages.objectives import front, values_of
from orchestrator.stages.rounds import mean_over_folds
from orchestrator.training.record import Trial


@dataclass(frozen=True)
class Sized:
    """A trial that was trained to its end on every fold."""

    trial: str
    accuracy: float  # on validation, mean over folds
    log_loss: float
    bytes: int
    macs: int
    peak: int
    on_front: bool


def sizes_of(config: Experiment, trials: Sequence[Trial]) -> list[Sized]:
    """Of the first round, in the order of their numbers; none where the search has one objective."""
    assert config.search is not None
    if len(config.search.objectives) < 2:
        return []
    reached = mean_over_folds(config, trials)
    settings = {trial.name: trial.training.settings for trial in trials}
    best = front({name: values_of(config, metrics, settings[name]) for name, metrics in reached.items()})
    found = []
    for name, metrics in reached.items():
        student = config.search_recipe(settings[name])
        found.append(
            Sized(
                trial=name,
                accuracy=metrics["accuracy"],
                log_loss=metrics["log_loss"],
                bytes=cost_of(config, student, "bytes"),
                macs=cost_of(config, student, "macs"),
                peak=cost_of(config, student, "peak"),
                on_front=name in best,
            )
        )
    return found
