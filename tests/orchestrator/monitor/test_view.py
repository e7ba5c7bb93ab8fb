"""What a person sees while it runs, in terminals of several widths and elsewhere."""

import io

import pytest
from rich.console import Console

from orchestrator.monitor.view import View

DETAIL = "4 of 11 done (1 stopped early), 1 running, best 0.415 / 1.641 (student-02-plain)"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_live_bar_keeps_bar_per_cent_time_left_and_names(width):
    view = View(Console(file=io.StringIO(), force_terminal=True, width=width))
    printed = Console(file=io.StringIO(), width=width, soft_wrap=True)  # as in the command line
    with view.stage("search") as bar:
        bar.update(0, 100)
        bar.update(59, 100, DETAIL)
        assert bar.progress
        for part in bar.progress.get_renderables():
            printed.print(part)
    assert isinstance(printed.file, io.StringIO)
    first, *below = printed.file.getvalue().splitlines()
    assert "search ━━━━━" in first and "59%" in first and first.endswith(":-- left")
    assert " ".join(" ".join(below).split()) == DETAIL


def lines_of(is_reused: bool) -> list[str]:
    file = io.StringIO()
    with View(Console(file=file)).stage("features") as bar:
        bar.is_reused = is_reused
        bar.about("40 clips")
    return file.getvalue().splitlines()


def test_a_stage_of_which_all_was_there_is_called_reused():
    assert lines_of(is_reused=True) == ["> features", "= features   reused  40 clips"]
    assert lines_of(is_reused=False) == ["> features", "+ features       0s  40 clips"]
