"""Nothing that the page shows is code, in a real browser."""

import pytest

from tests.orchestrator.watch.storages import stage, write_run, write_trial

pytestmark = pytest.mark.integration

NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


def test_nothing_that_is_shown_is_code(tmp_path, page, browser):
    folder = tmp_path / "work/search/bbbb"
    name = NASTY.replace("/", "\N{FRACTION SLASH}")
    for number, state in enumerate(("failed", "stopped", "running")):
        path = write_trial(
            folder,
            f"{name}{number}",
            3,
            0.4 + 0.1 * number,
            number=number,
            state=state,
            settings={NASTY: number, "labels": NASTY + str(number)},
            failure=NASTY if state == "failed" else None,
        )
        (path / "failure.txt").write_text(NASTY)
    stages = [stage("search", "running", 1, 1, 2, NASTY, ["work/search/bbbb"])]
    page(tmp_path, write_run(tmp_path, name=NASTY, message=NASTY, stages=stages))
    browser.wait("document.getElementById('curves').lines.length === 3")
    browser.click("#failed summary")
    browser.js("document.querySelector('#failed details').open = true")
    browser.wait("document.querySelector('#failed pre').innerText !== '…'")
    assert browser.texts("h1") == [NASTY]
    assert browser.texts("#failed pre") == [NASTY]
    assert NASTY in browser.texts(".failure")[0]
    assert NASTY in browser.texts("#strip .detail")
    assert browser.texts("#parallel .name title")[0] == NASTY
    assert browser.js("document.querySelectorAll('img, body script').length") == 0
    assert browser.js("document.title").startswith(NASTY)
    assert browser.texts("#curves .entry")[0].startswith("<script>")
    assert browser.complaints == []


def test_the_page_forbids_code_in_itself(tmp_path, page, browser):
    page(tmp_path, write_run(tmp_path))
    browser.js(
        "(() => { const script = document.createElement('script');"
        "script.text = 'window.owned = 1'; document.body.append(script); })()"
    )
    assert browser.js("window.owned") is None
    assert any("Content Security Policy" in text for text in browser.complaints)
