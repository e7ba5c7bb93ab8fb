"""The charts that need plotly: learning curves and the search's parallel coordinates.

Colours of text, grids and axes are style.css's, so that one chart suits light and dark; data has colours of
middling luminance that stand out from both. Names are escaped, because plotly reads its texts as HTML.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.report.colours import FAINT, PALETTE, STATE_COLOURS, WORST_TO_BEST
from orchestrator.report.folder import RunFolder
from orchestrator.report.formats import finite, fixed, percent, setting, shortened
from orchestrator.report.points import drawn, points_each
from orchestrator.report.trials import is_logarithmic, is_numeric, usable, varying
from orchestrator.training.best import is_lower_better
from orchestrator.training.rows import TRAINING_STAGES, StageRow

MANY = 100  # trainings from which those of one style are one line
MARKS = 40  # cycle ends that are marked by dotted lines, at most
MANY_CHOICES = 8  # whole numbers with more values than this get round ticks
Quantity = Literal["accuracy", "log_loss", "loss", "learning_rate"]
PANELS: dict[Quantity, str] = {
    "accuracy": "Validation accuracy",
    "log_loss": "Validation log loss",
    "loss": "Training loss",
    "learning_rate": "Learning rate",
}


OUTCOMES = ("epochs", "accuracy", "log_loss")  # of a trial, after its settings

type Dimension = dict[str, Any]  # one axis of plotly's parallel coordinates


class Chart(NamedTuple):
    figure: Any  # plotly's, as JSON
    alt: str  # the same in words
    rem_wide: int = 0  # below this width the page scrolls it sideways


class Style(NamedTuple):
    """How one training's curve is drawn."""

    colour: str
    label: str  # legend entry; the same label is shown, and switched off, together
    width: float = 1.6
    opacity: float = 1.0


def learning_curves(run: RunFolder) -> dict[str, Chart]:
    """A chart for each stage that trained: teachers, search and final students."""
    charts = {}
    for stage in TRAINING_STAGES:
        trials = run.of_stage(stage)
        if not trials:
            continue
        styles = search_styles(run) if stage == "search" else distinct_styles(list(trials))
        if stage == "search":
            trials = {name: rows for name, rows in trials.items() if name in styles}  # as damaged files may lack some
            # Lines drawn later lie on top, which the best trial's must; the legend has it first.
            order = list(STATE_COLOURS.values())
            trials = dict(sorted(trials.items(), key=lambda item: -order.index(styles[item[0]].colour)))
        figure = curves(trials, styles)
        figure.update_layout(
            hovermode="closest" if stage == "search" else "x unified",
            legend_traceorder="reversed" if stage == "search" else "normal",
        )
        charts[stage] = Chart(plain(figure), curves_alt(trials, run.best if stage == "search" else None))
    return charts


def distinct_styles(names: Sequence[str]) -> dict[str, Style]:
    return {name: Style(PALETTE[index % len(PALETTE)], name) for index, name in enumerate(names)}


def search_styles(run: RunFolder) -> dict[str, Style]:
    """The best trial stands out, the others are coloured by how they ended."""
    styles = {trial.trial: Style(STATE_COLOURS[trial.state], trial.state, 1.2, 0.65) for trial in run.trials}
    return styles | ({run.best: Style(STATE_COLOURS["best"], "best trial", 2.4)} if run.best else {})


def curves(trials: Mapping[str, Sequence[StageRow]], styles: Mapping[str, Style]) -> go.Figure:
    """One panel a quantity over a shared axis of epochs, cycle ends marked in all of them."""
    panels = panels_of(trials)
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.055,
        row_heights=[1.6 if quantity == "learning_rate" else 3 for quantity in panels],
        subplot_titles=list(panels.values()),
    )
    ends = {row["epoch"] for rows in trials.values() for row in rows if row["cycle_end"]}
    points = points_each(len(trials))
    trials = {name: some_of(rows, points) for name, rows in trials.items()}
    if len(trials) > MANY:
        alike: dict[Style, dict[str, Sequence[StageRow]]] = {}
        for name, rows in trials.items():
            alike.setdefault(styles[name], {})[name] = rows
        traces = [
            together(group, quantity, style, legend=quantity == "loss")
            for style, group in alike.items()
            for quantity in panels
        ]
    else:
        named = {styles[name].label: name for name in trials}  # one legend entry a label, the last one's
        traces = [
            curve(name, rows, quantity, styles[name], legend=quantity == "loss" and name in named.values())
            for name, rows in trials.items()
            for quantity in panels
        ]
    places = [*range(1, len(panels) + 1)] * (len(traces) // len(panels))
    figure.add_traces(traces, rows=places, cols=[1] * len(traces))
    figure.update_layout(shapes=[mark(end) for end in sorted(ends)] if len(ends) <= MARKS else [])
    figure.update_layout(height=180 * len(panels), margin={"l": 48, "r": 8, "t": 64, "b": 40}, showlegend=True)
    figure.update_annotations(xanchor="left", x=0, font_size=13)
    figure.update_xaxes(title_text="Epoch", title_standoff=6, row=len(panels), col=1)
    figure.update_xaxes(dtick=1 if max(ends, default=0) <= 10 else None)
    if "accuracy" in panels:
        figure.update_yaxes(tickformat=".0%", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=len(panels), col=1)
    return common(figure)


def some_of(rows: Sequence[StageRow], points: int) -> list[StageRow]:
    """The epochs of a training that are drawn."""
    ends = [place for place, row in enumerate(rows) if row["cycle_end"]]
    return [rows[place] for place in drawn(len(rows), ends, points)]


def panels_of(trials: Mapping[str, Sequence[StageRow]]) -> dict[Quantity, str]:
    """Quantity -> title of what was measured: a training on everything has nothing to validate on."""
    rows = [row for trial in trials.values() for row in trial]
    return {name: title for name, title in PANELS.items() if any(row[name] is not None for row in rows)}


def mark(epoch: int) -> dict[str, object]:
    """A dotted line through all panels."""
    place = {"xref": "x", "yref": "paper", "x0": epoch, "x1": epoch, "y0": 0, "y1": 1}
    return {"type": "line", **place, "line": {"width": 1, "dash": "dot"}}


def curve(name: str, rows: Sequence[StageRow], quantity: Quantity, style: Style, legend: bool) -> go.Scatter:
    """One quantity of one training, with a dot at each cycle end."""
    return go.Scatter(
        x=[row["epoch"] for row in rows],
        y=[shortened(row[quantity]) for row in rows],
        mode="lines+markers",
        name=as_text(style.label),
        text=as_text(name),
        legendgroup=style.label,
        showlegend=legend,
        opacity=style.opacity,
        line={"color": style.colour, "width": style.width},
        marker={
            "size": [6 if row["cycle_end"] else 0 for row in rows],
            "color": style.colour,
            "opacity": 1,
            "line": {"width": 0},
        },
        cliponaxis=False,
        connectgaps=True,  # over epochs that were not validated
        hovertemplate="%{text}<br>epoch %{x}: <b>%{y}</b><extra></extra>",
    )


def together(trials: Mapping[str, Sequence[StageRow]], quantity: Quantity, style: Style, legend: bool) -> go.Scatter:
    """One quantity of many trainings as one line with gaps: a browser takes a minute to draw a line for each."""
    gap = [None]
    measured = {
        name: [(row["epoch"], shortened(row[quantity])) for row in rows if finite(row[quantity])]
        for name, rows in trials.items()
    }
    epochs = [[epoch for epoch, _ in points] + gap for points in measured.values()]
    values = [[value for _, value in points] + gap for points in measured.values()]
    # The settings that follow a trial's number are in the table: here they would be most of the page's bytes.
    names = [[as_text("-".join(name.split("-")[:2]))] * len(points) + gap for name, points in measured.items()]
    return go.Scatter(
        x=list(chain(*epochs)),
        y=list(chain(*values)),
        mode="lines",
        name=as_text(style.label),
        text=list(chain(*names)),
        legendgroup=style.label,
        showlegend=legend,
        opacity=style.opacity,
        line={"color": style.colour, "width": style.width},
        connectgaps=False,
        hovertemplate="%{text}<br>epoch %{x}: <b>%{y}</b><extra></extra>",
    )


def curves_alt(trials: Mapping[str, Sequence[StageRow]], best: str | None) -> str:
    """The chart in words: how far each training went and where it ended."""
    named = [best] if best in trials else list(trials)
    ends = [f"{name} ends {reached(rows[-1])}" for name, rows in trials.items() if name in named]
    count = f"{len(trials)} trials; the best, " if best else ""
    return f"Line charts over epochs of {', '.join(panels_of(trials).values()).lower()}. {count}{'; '.join(ends)}."


def reached(row: StageRow) -> str:
    after = f"after {row['epoch']} epochs at"
    if row["accuracy"] is None:
        return f"{after} a training loss of {fixed(row['loss'])}"
    return f"{after} {percent(row['accuracy'])} accuracy and {fixed(row['log_loss'])} log loss"


def parallel_coordinates(run: RunFolder) -> Chart | None:
    """Settings and outcomes of the usable trials, a line a trial, coloured by the metric that selects."""
    rows = usable(run.trials)
    names = varying(rows)
    if len(rows) < 2 or not names:
        return None
    dimensions = [dimension(name.partition(".")[2] or name, [row.settings[name] for row in rows]) for name in names]
    dimensions += [dimension(name, [getattr(row, name) for row in rows]) for name in OUTCOMES]
    dimensions[-1]["range"] = [max(dimensions[-1]["values"]), min(dimensions[-1]["values"])]  # up is better
    judged = [getattr(row, run.select_by) for row in rows]
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": judged,
                "colorscale": WORST_TO_BEST,
                "reversescale": is_lower_better(run.select_by),
                "showscale": True,
                "colorbar": {"title": {"text": run.select_by.replace("_", " ")}, "thickness": 10, "outlinewidth": 0},
            },
            unselected={"line": {"color": FAINT, "opacity": 0.15}},
            labelfont_size=13,
            tickfont_size=11,
            rangefont_size=11,
        )
    )
    figure.update_layout(height=420, margin={"l": 56, "r": 24, "t": 64, "b": 32})
    alt = (
        f"Parallel coordinates of {len(rows)} trials over {', '.join(names)}, coloured by {run.select_by}. "
        "The table above has the same numbers."
    )
    return Chart(plain(common(figure)), alt, rem_wide=7 * len(dimensions))


def dimension(label: str, values: list[Any]) -> Dimension:
    """One axis: a tick for each choice; a range is logarithmic where its values span decades, else linear."""
    label = as_text(label)
    if not is_numeric(values):
        distinct = sorted(set(values), key=str)
        return {
            "label": label,
            "values": [distinct.index(value) for value in values],
            "tickvals": list(range(len(distinct))),
            "ticktext": [as_text(setting(choice)) for choice in distinct],
        }
    distinct = sorted(set(values))
    if len(distinct) <= MANY_CHOICES and all(isinstance(value, int) for value in values):
        return {"label": label, "values": values, "tickvals": distinct, "ticktext": [str(value) for value in distinct]}
    if is_logarithmic(values):
        logs = [math.log10(value) for value in values]
        ticks = [min(logs) + (max(logs) - min(logs)) * step / 4 for step in range(5)]
        texts = [f"{10**tick:.2g}" for tick in ticks]
        return {"label": label, "values": logs, "tickvals": ticks, "ticktext": texts}
    return {"label": label, "values": values, "tickformat": ".3~g"}


def as_text(name: str) -> str:
    """A name that plotly, which reads HTML, shows as it is."""
    return html.escape(name, quote=False)


def common(figure: go.Figure) -> go.Figure:
    """What all charts share: no background, one font, thin grids."""
    figure.update_layout(
        template="none",
        autosize=True,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        hoverlabel={"bgcolor": "#20252c", "bordercolor": "#20252c", "font": {"color": "#f2f4f6"}},
        legend={"orientation": "h", "x": 0, "y": 1.045, "yanchor": "bottom"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": FAINT, "activecolor": PALETTE[0]},
    )
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(zeroline=False, nticks=5)
    return figure


def plain(figure: go.Figure) -> Any:
    """The figure as JSON values; plotly's own writer turns NaN into null."""
    return json.loads(figure.to_json() or "{}")
