"""What of a run's numbers calls for another setting, a line each: for the end of the terminal and of the report."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.report.schema import Report, Results

TITLE = "What to look at next"
FEW = 5  # validation clips a scene by which choices are made
NEAR = 0.02  # of a range: so near to its end a value lies on it


def advice(results: Results, space: Mapping[str, Any]) -> list[str]:
    """`space` is search.space as config.yaml has it, empty where there was no search."""
    return [*of_predictions(results, results.product), *of_validation(results), *of_search(results, space)]


def of_predictions(results: Results, product: Report | None) -> Iterator[str]:
    """What the exported file's test report shows."""
    if product is None:
        return
    uniform = math.log(len(results.scenes))
    if product.log_loss > uniform:
        yield (
            f"The log loss {product.log_loss:.3f} is above a uniform guess's {uniform:.3f}: its probabilities are too "
            f"sure. student.calibrate=true corrects that; more epochs (student.recipe.cycle_ends) may be what it lacks."
        )
    predicted = [sum(column) for column in zip(*product.confusion, strict=True)]
    never = [name for name, count in zip(results.scenes, predicted, strict=True) if not count]
    if never:
        yield (
            f"Never predicted: {', '.join(never)}. Look at the confusions; such a scene needs more recordings, or the "
            f"student more epochs (student.recipe.cycle_ends)."
        )


def of_validation(results: Results) -> Iterator[str]:
    """Whether choices were made by few clips."""
    clips = results.corpus.clips.get("validation", 0)
    folds = results.search is not None and any("fold" in row for row in results.artifacts)
    if 0 < clips < FEW * len(results.scenes) and not folds:
        yield (
            f"Choices are made on {clips} validation clips, {clips / len(results.scenes):.1f} a scene, which tells "
            f"little. validation.folds=3 judges a search on all training clips; corpus.validation_fraction keeps more."
        )


def of_search(results: Results, space: Mapping[str, Any]) -> Iterator[str]:
    """Whether the chosen recipe lies on an end of what was searched."""
    for name, value in (results.best_trial.settings if results.best_trial else {}).items():
        domain = space.get(name)
        if not isinstance(domain, Mapping) or "low" not in domain or not isinstance(value, int | float):
            continue
        ends = (domain["low"], domain["high"], value)
        low, high, at = (math.log(one) if domain.get("log") and one > 0 else float(one) for one in ends)
        for end, place in (("lower", low), ("upper", high)):
            if abs(at - place) <= NEAR * (high - low):
                yield (
                    f"The chosen {name} = {value:.3g} lies on the {end} end of search.space ({domain['low']:g} to "
                    f"{domain['high']:g}): the best may lie beyond; widen search.space.{name}."
                )
