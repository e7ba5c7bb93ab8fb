"""What the page says about the search's settings: the lines of its parallel coordinates, and importances."""

import html
import time
from collections.abc import Sequence
from typing import Any

from orchestrator.report.charts import WORST_TO_BEST, dimension
from orchestrator.report.folder import RunFolder
from orchestrator.report.trials import importances, usable, varying
from orchestrator.watch.trials import Trial

OUTCOMES = ("epochs", "accuracy", "log_loss")
EVEN_TICKS = 5
REST = 20  # times as long as importances took, nothing is computed


def as_run(trials: Sequence[Trial], metric: str) -> RunFolder:
    """Live trials in the shape that the report's functions take."""
    rows = [
        {
            "trial": trial["id"],
            "state": trial["state"],
            "epochs": trial["reached"],
            "accuracy": trial["accuracy"],
            "log_loss": trial["log_loss"],
            **trial["settings"],
        }
        for trial in trials
    ]
    return RunFolder({"select_by": metric, "best_trial": None}, rows, [], "", {}, {})


def parallel(trials: Sequence[Trial], metric: str) -> dict[str, Any] | None:
    """Axes with each trial's place on them from 0 to 1, settings that vary first; and its colour.

    None where there is nothing to compare.
    """
    run = as_run(trials, metric)
    rows, names = usable(run), varying(run)
    if len(rows) < 2 or not names:
        return None
    axes = {name: axis(name, [row[name] for row in rows]) for name in (*names, *OUTCOMES)}
    axes["log_loss"] = upside_down(axes["log_loss"])
    from plotly.colors import sample_colorscale

    return {
        "trials": [row["trial"] for row in rows],
        "axes": list(axes.values()),
        "colours": sample_colorscale([list(stop) for stop in WORST_TO_BEST], axes[metric]["places"]),
    }


def axis(name: str, values: list[Any]) -> dict[str, Any]:
    """The report's axis as the page draws it: places from 0 to 1, and ticks as (place, text)."""
    found = dimension(name, values)
    low, high = min(found["values"]), max(found["values"])

    def place(value: float) -> float:
        return round((value - low) / (high - low), 4) if high > low else 0.5

    if "tickvals" in found:
        texts = [html.unescape(text) for text in found["ticktext"]]  # they were escaped for plotly
        ticks = [(place(value), text) for value, text in zip(found["tickvals"], texts, strict=True)]
    else:
        steps = [low + (high - low) * step / (EVEN_TICKS - 1) for step in range(EVEN_TICKS)]
        ticks = [(place(value), f"{value:.3g}") for value in (steps if high > low else [low])]
    return {"name": name, "places": [place(value) for value in found["values"]], "ticks": ticks}


def upside_down(axis: dict[str, Any]) -> dict[str, Any]:
    """Up is better on every axis of outcomes."""
    return {
        **axis,
        "places": [round(1 - place, 4) for place in axis["places"]],
        "ticks": [(round(1 - place, 4), text) for place, text in axis["ticks"]],
    }


class Importances:
    """fANOVA over the trials that have ended, computed again only when another one has.

    It takes seconds where trials are hundreds, of a machine that may be the one that trains.
    """

    def __init__(self) -> None:
        self.ended: list[dict[str, Any]] | None = None
        self.found: tuple[list[tuple[str, float]], str] = ([], "")
        self.rest_until = float("-inf")

    def of(self, trials: Sequence[Trial], metric: str, training: bool) -> tuple[list[tuple[str, float]], str]:
        """(setting, share), the largest first; or none, and why. During training they may be some trials behind."""
        run = as_run([trial for trial in trials if trial["state"] in ("finished", "stopped")], metric)
        started = time.monotonic()
        if run.trials != self.ended and not (training and started < self.rest_until):
            self.found, self.ended = importances(run), run.trials
            self.rest_until = time.monotonic() + REST * (time.monotonic() - started)
        return self.found
