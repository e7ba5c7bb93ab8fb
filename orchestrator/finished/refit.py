"""A finished run's choices, trained once more on more clips, as the paper's submission was (PAPER 3).

With validation in the training split nothing can be chosen, so recipe and weights of the average are the run's.
"""

from pathlib import Path

from pydantic import ValidationError

from features.corpus import SPLITS
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.config.reading import explain
from orchestrator.config.trained import apply_settings
from orchestrator.errors import UserError
from orchestrator.report.schema import Results
from orchestrator.storage.runs import CONFIG, RESULTS


def refit_of(run: Path, total: bool) -> Experiment:
    """The experiment: on train and validation, measured on the test split; or with `total` on everything.

    Raises UserError where the run is a refit itself.
    """
    config, results = load(str(run / CONFIG)), Results.read(run / RESULTS)
    if config.refit_of is not None:
        raise UserError(f"{run} is a refit itself; give the run it was made of, {config.refit_of}")
    if config.calibrate_teachers and results.distilled and results.label_temperatures is None:
        raise UserError(
            f"{run / RESULTS} is an earlier version's, without label_temperatures: run the experiment again"
        )
    settings = results.best_trial.settings if results.best_trial else {}
    average = results.average
    weights = average.weights
    student = apply_settings(config.student, settings)
    epochs = tuple(sorted(weights))
    changes: dict[str, object] = {
        "name": f"{config.name}-{'total' if total else 'refit'}",
        "corpus": {**dict(config.corpus), "fit_on": SPLITS if total else SPLITS[:2]},
        "validation": {**dict(config.validation), "folds": 1},
        "student": {
            **dict(student),
            "average": epochs,
            "weights": tuple(weights[epoch] for epoch in epochs),
            "moving": average.moving,
            "calibrate": False,
        },
        "calibrate_teachers": (config.calibrate_teachers and results.label_temperatures) or False,
        "search": None,
        "plain": False,
        "refit_of": run.resolve().name,
    }
    try:
        return Experiment.model_validate({**dict(config), **changes})
    except ValidationError as error:
        reason = explain(error, Experiment)
        raise UserError(f"{run}: its settings and its results do not belong together ({reason})") from None
