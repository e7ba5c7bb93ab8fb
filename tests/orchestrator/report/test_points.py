"""Which epochs are drawn, by hand and for any numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report.charts import MANY, MARKS, Style, curves
from orchestrator.report.points import LEAST, MOST, drawn, points_each
from orchestrator.training.rows import StageRow
from tests.orchestrator.training.rows import row_of


@pytest.mark.parametrize(
    ("trainings", "points"), [(0, MOST), (1, MOST), (39, MOST), (40, 512), (300, 128), (1000, 32), (10**6, LEAST)]
)
def test_trainings_share_the_points(trainings, points):
    assert points_each(trainings) == points


def test_few_epochs_are_all_drawn_and_of_many_even_steps():
    assert drawn(5, [1], 5) == [0, 1, 2, 3, 4]
    assert drawn(101, [], 6) == [0, 20, 40, 60, 80, 100]
    assert drawn(101, [50], 7) == [0, 20, 40, 50, 60, 80, 100]


@given(count=st.integers(0, 3000), most=st.integers(LEAST, MOST), data=st.data())
def test_first_last_and_the_latest_cycle_ends_are_drawn(count, most, data):
    ends = sorted(data.draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=min(count, 200))))
    places = drawn(count, ends, most)
    assert places == sorted(set(places)) and len(places) <= max(most, 0)
    assert all(0 <= place < count for place in places)
    assert {0, count - 1} <= set(places) or not count
    assert set(ends[-(most // 2) + 2 :]) <= set(places) if count > most else places == list(range(count))


def trials_of(count: int, epochs: int = 2) -> dict[str, list[StageRow]]:
    rows = [row_of(epoch, float(epoch)) for epoch in range(1, epochs + 1)]
    return {
        f"student-{number:03d}-T{number}": [{**row, "stage": "search", "trial": ""} for row in rows]
        for number in range(count)
    }


def test_a_few_trainings_have_a_line_each_and_many_of_one_style_share_one():
    few, many = trials_of(MANY), trials_of(MANY + 1)
    alone: Any = curves(few, dict.fromkeys(few, Style("#111111", "stopped")))
    styles = {name: Style("#111111", "stopped") for name in many} | {
        "student-007-T7": Style("#222222", "best trial", 2.4)
    }
    assert len(alone.data) == 4 * MANY
    figure: Any = curves(many, styles)
    assert [(line.name, line.legendgroup) for line in figure.data] == 4 * [("stopped", "stopped")] + 4 * [
        ("best trial", "best trial")
    ]
    together, best = figure.data[1], figure.data[5]  # log loss
    assert len(together.x) == 3 * MANY and list(together.x[:6]) == [1, 2, None, 1, 2, None]
    assert list(together.y[:6]) == [1.0, 2.0, None, 1.0, 2.0, None] and together.connectgaps is False
    assert list(together.text[:4]) == ["student-000", "student-000", None, "student-001"]
    assert list(best.x) == [1, 2, None] and best.text[0] == "student-007"
    assert sum(bool(line.showlegend) for line in figure.data) == 2


def test_lines_lead_over_epochs_that_were_not_validated():
    known = trials_of(MANY + 1, 3)
    known["student-000-T0"] = [
        {**row, "log_loss": None if row["epoch"] == 2 else 1.0} for row in known["student-000-T0"]
    ]
    figure: Any = curves(known, dict.fromkeys(known, Style("#111111", "stopped")))
    assert list(figure.data[1].x[:7]) == [1, 3, None, 1, 2, 3, None] and list(figure.data[1].y[:2]) == [1.0, 1.0]
    few: Any = curves(dict(list(known.items())[:2]), dict.fromkeys(known, Style("#111111", "stopped")))
    assert few.data[1].connectgaps is True and list(few.data[1].y) == [1.0, None, 1.0]


def test_very_many_cycle_ends_are_not_marked():
    styles = dict.fromkeys(trials_of(1), Style("#111111", "stopped"))
    marked: Any = curves(trials_of(1, MARKS), styles)
    unmarked: Any = curves(trials_of(1, MARKS + 1), styles)
    assert len(marked.layout.shapes) == MARKS and not unmarked.layout.shapes
