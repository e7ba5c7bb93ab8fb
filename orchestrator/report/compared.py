"""Differences between models as results.json has them: with their intervals, and in words."""

from collections.abc import Sequence
from dataclasses import asdict

from orchestrator.config.experiment import Experiment
from orchestrator.report.schema import Candidate, Comparison, Interval, Searched, Size, Verdict
from orchestrator.stages.objectives import objectives_of
from orchestrator.stages.search import Search
from orchestrator.training.best import is_lower_better
from orchestrator.training.paired import Clips, Compared, Difference
from orchestrator.training.rows import Metric
from orchestrator.training.scores import Scores


def comparison(models: Sequence[Sequence[Scores]], clips: Clips, seed: int) -> Comparison:
    """The first of two models against the second, each of several seeds, over all clips."""

    def of(metric: Metric) -> Interval:
        return interval(Compared.of(models, clips, metric, "clips", seed).difference(0, 1), metric)

    return Comparison(
        accuracy=of("accuracy"),
        log_loss=of("log_loss"),
        seeds=len(models[0]),
        locations=len(set(clips.locations)),
    )


def interval(found: Difference, metric: Metric) -> Interval:
    """The difference in words, too: neither is better where its interval holds 0."""
    verdict: Verdict = "no difference"
    if found.low > 0 or found.high < 0:
        verdict = "better" if (found.high < 0) == is_lower_better(metric) else "worse"
    return Interval(value=found.value, low=found.low, high=found.high, verdict=verdict)


def searched(config: Experiment, search: Search) -> Searched:
    """What the search compared at its end."""
    assert config.search is not None
    finalists = config.search.finalists
    return Searched(
        seeds=finalists.seeds if finalists else 1,
        candidates=tuple(
            Candidate(
                trial=one.trial,
                accuracy=one.accuracy,
                log_loss=one.log_loss,
                minus_default=one.to_default and interval(one.to_default, config.select_by),
                wins=one.wins,
                distance=one.distance,
            )
            for one in search.evidence()
        ),
        objectives=objectives_of(config),
        sizes=tuple(Size(**asdict(one)) for one in search.sizes()),
    )
