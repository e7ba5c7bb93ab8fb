"""The chart and the table of a search over several objectives."""

import re

from orchestrator.report.build import write_report
from orchestrator.report.folder import RunFolder
from orchestrator.report.sizes import size_chart
from tests.orchestrator.report.sample_runs import BEST, edit_results, write_run


def with_sizes(results):
    def size(trial, log_loss, count, on_front):
        costs = {"bytes": count, "macs": 10 * count, "peak": count // 10}
        return {"trial": trial, "accuracy": 0.5, "log_loss": log_loss, **costs, "on_front": on_front}

    results["search"] |= {
        "objectives": ["log_loss", "bytes"],
        "sizes": [
            size(BEST, 1.2, 90_000, True),
            size("student-02-plain", 1.4, 118_000, False),
            size("student-05-tiny", 1.6, 20_000, True),
        ],
    }


def test_without_costs_there_is_no_chart(tmp_path):
    assert size_chart(RunFolder.read(write_run(tmp_path))) is None


def test_the_front_is_drawn_from_the_smallest_to_the_largest_and_the_chosen_one_stands_out(tmp_path):
    folder = write_run(tmp_path)
    edit_results(folder, with_sizes)
    chart = size_chart(RunFolder.read(folder))
    assert chart is not None
    others, front, chosen = chart.figure["data"]
    assert (others["x"], others["y"], others["name"]) == ([118_000], [1.4], "other recipes")
    assert (front["x"], front["y"], front["name"]) == ([20_000, 90_000], [1.6, 1.2], "front")
    assert (chosen["x"], chosen["y"], chosen["text"]) == ([90_000], [1.2], [BEST])
    assert "2 on the front, from 20,000 to 90,000" in chart.alt and "3 recipes" in chart.alt
    page = write_report(folder).read_text()
    table = page[page.index("The front, the smallest first") :]
    assert re.findall(r"<code>(.*?)</code>", table)[:2] == ["student-05-tiny", BEST]
    assert "the\nsmallest is chosen" in page and "one nearest to" not in page
