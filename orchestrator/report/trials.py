"""The search for the report: its trials in order, and which settings mattered."""

from typing import Any

from orchestrator.report.folder import Row, RunFolder, finite

ENOUGH = 4
"""Trials below which importances are not worth computing."""

STATES = ("finished", "stopped", "failed")


def in_order(run: RunFolder) -> list[Row]:
    """The best trial, then by how far they came and by what they reached; failed ones last."""
    sign = -1 if run.select_by == "accuracy" else 1

    def rank(trial: Row) -> tuple[bool, bool, int, float]:
        value = trial[run.select_by]
        return (
            trial["trial"] != run.best,
            trial["state"] == "failed",
            -trial["epochs"],
            sign * value if finite(value) else float("inf"),
        )

    return sorted(run.trials, key=rank)


def usable(run: RunFolder) -> list[Row]:
    """Trials that did not fail and have finite metrics."""
    return [
        trial
        for trial in run.trials
        if trial["state"] != "failed" and finite(trial["accuracy"]) and finite(trial["log_loss"])
    ]


def varying(run: RunFolder) -> list[str]:
    """Settings with more than one value among the usable trials."""
    rows = usable(run)
    return [name for name in run.settings if len({row[name] for row in rows}) > 1]


def is_numeric(values: list[Any]) -> bool:
    return all(finite(value) and not isinstance(value, bool) for value in values)


def is_logarithmic(values: list[float]) -> bool:
    """Whether values span a decade or more, as learning rates do: then they are drawn and judged as logarithms."""
    return min(values) > 0 and max(values) >= 10 * min(values)


def importances(run: RunFolder) -> tuple[list[tuple[str, float]], str]:
    """(setting, share of the metric's variance) by fANOVA, the largest first; or none, and why."""
    rows, names = usable(run), varying(run)
    if len(rows) < ENOUGH:
        return [], f"Importances need at least {ENOUGH} trials that did not fail; there are {len(rows)}."
    if not names:
        return [], "No setting varies between the trials, so none can be more important than another."
    if len({row[run.select_by] for row in rows}) == 1:
        return [], "All trials reached the same value, so no setting can be said to have mattered."
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it announces the study on stderr
    try:
        study = optuna.create_study(direction="minimize" if run.select_by == "log_loss" else "maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    distributions = {name: distribution([row[name] for row in rows]) for name in names}
    for row in rows:
        study.add_trial(
            optuna.trial.create_trial(
                params={name: row[name] for name in names}, distributions=distributions, value=row[run.select_by]
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
