"""The colours of trainings, in the report's charts and on the live page."""

PALETTE = ("#2f81d6", "#d9782d", "#2a9d6f", "#a06bd0", "#c9518a", "#8a8f2a")
"""Of trainings that have a colour each."""

FAINT = "#8b929c"
"""Of what stays in the background."""

STATE_COLOURS = {
    "best": PALETTE[0],
    "running": PALETTE[1],
    "finished": PALETTE[2],
    "stopped": FAINT,
    "interrupted": PALETTE[3],
    "failed": "#d64545",
}
"""Of trials that are too many for a colour each, by how they ended; what comes first is drawn on top."""

WORST_TO_BEST = ((0.0, "#e08a2e"), (0.5, "#c2507a"), (1.0, "#2f74e0"))
"""Of a metric's values."""
