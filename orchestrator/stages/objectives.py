"""What a search is over: one metric, or that and others, with costs; then the result is a Pareto front."""

from collections.abc import Mapping

from orchestrator.config.experiment import Experiment
from orchestrator.config.search import Objective
from orchestrator.stages.costs import cost_of
from orchestrator.training.best import rank
from orchestrator.training.record import Settings
from orchestrator.training.rows import Measured

Values = tuple[float, ...]
"""One for each objective; the lower, the better."""


def objectives_of(config: Experiment) -> tuple[Objective, ...]:
    """All objectives, the metric that selects first."""
    assert config.search is not None
    others: list[Objective] = [name for name in config.search.objectives if name != config.select_by]
    return (config.select_by, *others)


def values_of(config: Experiment, measured: Measured, settings: Settings) -> Values:
    """Of a trial's metrics on validation, and of what its student costs."""
    assert config.search is not None
    student = config.search_recipe(settings)
    return tuple(
        rank(measured, name) if name == "log_loss" or name == "accuracy" else cost_of(config, student, name)
        for name in objectives_of(config)
    )


def ranked[T](values: Mapping[T, Values]) -> list[T]:
    """The best first: the front, then the front of what is left; each by the first objective, of equals the earlier."""
    left, order = dict(values), list[T]()
    while left:
        best = sorted(front(left), key=lambda name: left[name][0])
        order += best
        left = {name: value for name, value in left.items() if name not in best}
    return order


def front[T](values: Mapping[T, Values]) -> list[T]:
    """The Pareto front: those that no other is as good as in all objectives and better than in one."""

    def dominates(one: Values, other: Values) -> bool:
        return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))

    return [name for name, own in values.items() if not any(dominates(other, own) for other in values.values())]
