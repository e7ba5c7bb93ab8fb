"""The search for the report: its trials in order, and which settings mattered."""

import random
from collections.abc import Sequence
from typing import Any

from orchestrator.report.formats import finite
from orchestrator.training.best import Standing, is_lower_better, place
from orchestrator.training.record import FAILED, FINISHED, STOPPED
from orchestrator.training.rows import Metric
from orchestrator.training.table import TrialRow

ENOUGH = 4
"""Trials below which importances are not worth computing."""

SAMPLE = 200
"""Trials that importances are computed on, at most: 2 to 4 s of a core, where 512 take 21."""

STATES = (FINISHED, STOPPED, FAILED)


def in_order(trials: Sequence[TrialRow], best: str | None, metric: Metric) -> list[TrialRow]:
    """The best trial, then the others as the search ranks them; failed ones last."""

    def rank(trial: TrialRow) -> tuple[bool, bool, bool, int, float]:
        judged = finite(trial.accuracy) and finite(trial.log_loss)
        standing = Standing(trial.trial, trial.epochs, trial.accuracy, trial.log_loss) if judged else None
        return (trial.trial != best, trial.state == FAILED, *place(standing, metric))

    return sorted(trials, key=rank)


def usable(trials: Sequence[TrialRow]) -> list[TrialRow]:
    """Trials of the first round that did not fail and have finite metrics; all have the settings of the first one."""
    first = [trial for trial in trials if trial.is_first and trial.settings.keys() == trials[0].settings.keys()]
    return [trial for trial in first if trial.state != FAILED and finite(trial.accuracy) and finite(trial.log_loss)]


def varying(trials: Sequence[TrialRow]) -> list[str]:
    """Settings with more than one value among the trials."""
    names = trials[0].settings if trials else ()
    return [name for name in names if len({trial.settings[name] for trial in trials}) > 1]


def is_numeric(values: list[Any]) -> bool:
    return all(finite(value) and not isinstance(value, bool) for value in values)


def is_logarithmic(values: list[float]) -> bool:
    """Whether values span a decade or more, as learning rates do: then they are drawn and judged as logarithms."""
    return min(values) > 0 and max(values) >= 10 * min(values)


def importances(trials: Sequence[TrialRow], metric: Metric) -> tuple[list[tuple[str, float]], str]:
    """(setting, share of the metric's variance) by fANOVA, the largest first; or none, and why.

    Of more than SAMPLE trials a sample is judged, which is always the same.
    """
    rows = usable(trials)
    if len(rows) > SAMPLE:
        rows = random.Random(0).sample(rows, SAMPLE)
    names, values = varying(rows), [getattr(row, metric) for row in rows]
    if len(rows) < ENOUGH:
        return [], f"Importances need at least {ENOUGH} trials that did not fail; there are {len(rows)}."
    if not names:
        return [], "No setting varies between the trials, so none can be more important than another."
    if len(set(values)) == 1:
        return [], "All trials reached the same value, so no setting can be said to have mattered."
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it announces the study on stderr
    try:
        study = optuna.create_study(direction="minimize" if is_lower_better(metric) else "maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    distributions = {name: distribution([row.settings[name] for row in rows]) for name in names}
    for row, value in zip(rows, values, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params={name: row.settings[name] for name in names}, distributions=distributions, value=value
            )
        )
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    return [(name, float(share)) for name, share in found.items()], ""


def distribution(values: list[Any]) -> Any:
    """The Optuna distribution that spans `values`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if is_numeric(values):
        return FloatDistribution(min(values), max(values), log=is_logarithmic(values))
    return CategoricalDistribution(sorted(set(values), key=str))
