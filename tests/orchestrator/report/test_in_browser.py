"""What a browser makes of the report: its charts are drawn, and nothing but its own scripts runs."""

import pytest

from orchestrator.report.build import write_report
from tests.orchestrator.report.sample_runs import make_trials, write_run

pytestmark = pytest.mark.integration


def test_charts_are_drawn_under_a_policy_that_forbids_other_code(tmp_path, browser):
    file = write_report(write_run(tmp_path / "run", make_trials(6)))
    browser.complaints.clear()
    browser.open(file.as_uri())
    browser.wait("document.querySelectorAll('.chart').length > 2")
    browser.wait("[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg, canvas'))")
    assert browser.complaints == []
    browser.js(
        "(() => { const script = document.createElement('script');"
        "script.text = 'window.owned = 1'; document.body.append(script); })()"
    )
    assert browser.js("window.owned") is None
    browser.js("fetch('https://192.0.2.1/').catch(() => null)")
    assert any("Content Security Policy" in text for text in browser.complaints)
