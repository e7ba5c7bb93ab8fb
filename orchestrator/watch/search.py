"""What the live page shows of the search's settings: the lines of its parallel coordinates, and importances."""

import html
import math
import time
from collections.abc import Sequence
from threading import Thread, main_thread
from typing import Any, TypedDict

from orchestrator.report.charts import OUTCOMES, dimension
from orchestrator.report.colours import WORST_TO_BEST
from orchestrator.report.trials import importances, usable, varying
from orchestrator.training.record import FINISHED, STOPPED
from orchestrator.training.rows import Metric
from orchestrator.training.table import TrialRow
from orchestrator.watch.trials import TrialView

EVEN_TICKS = 5
REST = 20  # times as long as importances took, nothing is computed


class Axis(TypedDict):
    """An axis of the parallel coordinates, places from 0 to 1."""

    name: str
    places: list[float]  # one a trial
    ticks: list[tuple[float, str]]


class Parallel(TypedDict):
    """Parallel coordinates as state.json has them."""

    trials: list[str]  # ids
    axes: list[Axis]
    colours: list[str]  # one a trial


def rows_of(trials: Sequence[TrialView]) -> list[TrialRow]:
    """Live trials in the shape that the report's functions take."""
    return [
        TrialRow(
            trial=trial["id"],
            state="stopped" if trial["state"] == "interrupted" else trial["state"],
            epochs=trial["reached"],
            accuracy=math.nan if trial["accuracy"] is None else trial["accuracy"],
            log_loss=math.nan if trial["log_loss"] is None else trial["log_loss"],
            seconds=trial["seconds"] or 0.0,
            seed=trial["seed"],
            cut=trial["cut"],
            wins=None,
            failure=trial["failure"] or "",
            settings=trial["settings"],
        )
        for trial in trials
    ]


def parallel(trials: Sequence[TrialView], metric: Metric) -> Parallel | None:
    """Axes with each trial's place on them, settings that vary first; and its colour.

    None where there is nothing to compare.
    """
    rows = usable(rows_of(trials))
    names = varying(rows)
    if len(rows) < 2 or not names:
        return None
    axes = {name: axis(name, [row.settings[name] for row in rows]) for name in names}
    axes |= {name: axis(name, [getattr(row, name) for row in rows]) for name in OUTCOMES}
    axes["log_loss"] = upside_down(axes["log_loss"])
    from plotly.colors import sample_colorscale

    colours = sample_colorscale([list(stop) for stop in WORST_TO_BEST], axes[metric]["places"])
    return {
        "trials": [row.trial for row in rows],
        "axes": list(axes.values()),
        "colours": [str(colour) for colour in colours],
    }


def axis(name: str, values: list[Any]) -> Axis:
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


def upside_down(axis: Axis) -> Axis:
    """Up is better on every axis of outcomes."""
    return {
        "name": axis["name"],
        "places": [round(1 - place, 4) for place in axis["places"]],
        "ticks": [(round(1 - place, 4), text) for place, text in axis["ticks"]],
    }


class Importances:
    """fANOVA over the trials that have ended, computed aside, and again only when another one has ended.

    It takes seconds where trials are hundreds, of a machine that may be the one that trains.
    """

    def __init__(self) -> None:
        self.ended: list[TrialRow] | None = None  # what `found` is of
        self.found: tuple[list[tuple[str, float]], str] = ([], "They are being computed.")
        self.rest_until = float("-inf")
        self.computing: Thread | None = None

    @property
    def are_due(self) -> bool:
        """Whether they may be others soon, though no trial has changed."""
        return self.computing is not None

    def of(self, trials: Sequence[TrialView], metric: Metric, training: bool) -> tuple[list[tuple[str, float]], str]:
        """(setting, share), the largest first; or none, and why. They may be some trials behind."""
        if self.computing is not None and not self.computing.is_alive():
            self.computing = None
        ended = rows_of([trial for trial in trials if trial["state"] in (FINISHED, STOPPED)])
        rests = training and time.monotonic() < self.rest_until
        if ended != self.ended and self.computing is None and not rests:
            self.computing = Thread(target=self.compute, args=(ended, metric), daemon=True)
            self.computing.start()
        return self.found

    def compute(self, ended: list[TrialRow], metric: Metric) -> None:
        """Find them, in a thread of their own."""
        started = time.monotonic()
        try:
            self.found = importances(ended, metric)
        except RuntimeError:  # nothing can be imported any more where the program ends meanwhile
            if main_thread().is_alive():
                raise
            return
        self.ended, self.rest_until = ended, time.monotonic() + REST * (time.monotonic() - started)
