"""The chart of a search over several objectives: what recipes reach against what they cost."""

from typing import cast

import plotly.graph_objects as go

from orchestrator.config.limits import COSTS
from orchestrator.report.charts import Chart, as_text, common, plain
from orchestrator.report.colours import FAINT, PALETTE, STATE_COLOURS
from orchestrator.report.folder import RunFolder
from orchestrator.report.schema import Size
from orchestrator.training.best import is_lower_better

CHOSEN = "chosen"
TITLES = {"bytes": "Bytes in fp16", "macs": "Multiply-accumulates a clip", "peak": "Activations alive at once"}


def size_chart(run: RunFolder) -> Chart | None:
    """The metric that selects over the first cost; None where nothing was searched over but metrics."""
    search = run.results.search
    cost = next((name for name in search.objectives if name in COSTS), None) if search else None
    if search is None or cost is None or not search.sizes:
        return None
    sizes = sorted(search.sizes, key=lambda size: getattr(size, cost))
    front = [size for size in sizes if size.on_front]
    others = [size for size in sizes if not size.on_front]
    chosen = [size for size in sizes if size.trial == run.best]
    figure = go.Figure(
        [
            points(run, others, cost, "other recipes", FAINT, "markers"),
            points(run, front, cost, "front", PALETTE[0], "lines+markers"),
            points(run, chosen, cost, CHOSEN, STATE_COLOURS["best"], "markers"),
        ]
    )
    figure.update_layout(height=360, margin={"l": 56, "r": 16, "t": 48, "b": 48}, hovermode="closest")
    figure.update_xaxes(title_text=TITLES[cost], tickformat=",.3~s", rangemode="tozero")
    metric = run.select_by.replace("_", " ")
    figure.update_yaxes(title_text=f"Validation {metric}", tickformat=None if is_lower_better(run.select_by) else ".0%")
    ends = f"from {getattr(front[0], cost):,} to {getattr(front[-1], cost):,}" if front else "empty"
    alt = f"{len(sizes)} recipes, validation {metric} over {TITLES[cost].lower()}; {len(front)} on the front, {ends}."
    return Chart(plain(common(figure)), alt)


def points(run: RunFolder, sizes: list[Size], cost: str, label: str, colour: str, mode: str) -> go.Scatter:
    return go.Scatter(
        x=[getattr(size, cost) for size in sizes],
        y=[cast("float", getattr(size, run.select_by)) for size in sizes],
        text=[as_text(size.trial) for size in sizes],
        mode=mode,
        name=label,
        line={"color": colour, "width": 1.6, "shape": "hv"},
        marker={
            "color": colour,
            "size": 11 if label == CHOSEN else 8,
            "symbol": "diamond" if label == CHOSEN else "circle",
        },
        hovertemplate="%{text}<br>%{x:,}: <b>%{y}</b><extra></extra>",
    )
