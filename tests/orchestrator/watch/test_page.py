"""The page in a real browser: what it shows, and what it lets a reader do."""

import json
from datetime import datetime

import pytest

from tests.orchestrator.watch.served import served
from tests.orchestrator.watch.storages import row, settings_of, write_run, write_search, write_teachers, write_trial

pytestmark = pytest.mark.integration

ROWS = "#trials tbody tr"
LINES = "document.getElementById('curves').lines"


def name_cells(browser):
    return browser.texts(f"{ROWS} th code")


def drawn(browser):
    """Names and numbers of points of the curves that are drawn."""
    return dict(browser.js(f"{LINES}.map(line => [line.name, line.x.length])"))


def test_a_running_run_shows_all_it_knows(tmp_path, page, browser):
    write_teachers(tmp_path)
    write_search(tmp_path, 16)
    outcome = "accuracy +4.2 [+2.3, +6.2] points (better)"
    page(tmp_path, write_run(tmp_path, generated=True, schema=2, outcome=outcome))
    assert browser.texts("h1") == ["demo"]
    assert browser.texts("#verdict")[0].startswith("running for 12 min 34 s; started ")
    assert browser.texts(".notice") == [
        f"Distilled minus plain: {outcome}",
        "Generated corpus: these accuracies prove the plumbing and mean nothing outside it.",
    ]
    assert browser.texts("#strip li")[3] == "Search running 56% 11 min 42 s 5 stopped, 3 running"
    assert browser.texts("#stage [aria-pressed=true]") == ["Search"]
    assert len(name_cells(browser)) == 16
    assert browser.texts("tr.chosen")[0].startswith("student-04-T4.1-mix0.36 finished best so far 30 / 30 58.6% 1.229")
    assert len(drawn(browser)) == 16
    ends = browser.js(f"[...new Set({LINES}.flatMap(l => l.x.filter((_, i) => l.ends[i])))]")
    assert sorted(ends) == [2, 6, 14, 30]
    assert browser.texts("#curves .entry") == ["best so far", "running", "finished", "stopped", "failed"]
    assert len(browser.texts("#parallel .line")) == 15
    assert browser.js("[...document.querySelectorAll('#parallel .name')].map(e => e.firstChild.data)") == [
        *("temperature", "learning rate", "mixup", "width", "labels", "epochs", "accuracy", "log loss")
    ]
    browser.wait("document.querySelectorAll('#importances tr').length === 5")  # they are computed aside
    assert browser.complaints == []


def test_the_page_follows_the_run_and_keeps_what_was_chosen(tmp_path, page, browser):
    folder = tmp_path / "work/search/bbbb"
    for number in range(2):
        write_trial(folder, f"student-{number:02d}", 3, number=number, settings=settings_of(number))
    run = write_run(tmp_path)
    page(tmp_path, run)
    browser.click(f'{ROWS}[data-id="search/student-01"] .pick')
    browser.js("document.querySelector('#quantity button:nth-child(2)').click(); scrollTo(0, 150)")
    assert browser.texts("[aria-pressed=true] code") == ["student-01"]

    rows = "".join(json.dumps(row(epoch, 0.5)) + "\n" for epoch in range(1, 7))
    (folder / "trials/student-01/rows.jsonl").write_text(rows)
    write_trial(folder, "student-02", 2, number=2, settings=settings_of(2))
    browser.wait(f"document.querySelectorAll('{ROWS}').length === 3")
    browser.wait(f"{LINES}.length === 3")
    assert drawn(browser) == {"student-00": 3, "student-01": 6, "student-02": 2}
    assert browser.texts(f'{ROWS}[data-id="search/student-01"] .epochs') == ["6 / 30"]
    assert browser.texts("[aria-pressed=true] code") == ["student-01"]
    assert browser.texts("#curves-title") == ["Validation log loss"]
    assert browser.js("scrollY") == 150
    assert browser.complaints == []


def test_rows_sort_by_any_column(tmp_path, page, browser):
    write_search(tmp_path, 8)
    page(tmp_path, write_run(tmp_path, best="student-04-T4.1-mix0.36"))

    def column(position):
        return [float(text.rstrip("%")) for text in browser.texts(f"{ROWS} td:nth-child({position})")]

    losses = column(5)
    assert losses == sorted(losses)
    assert name_cells(browser)[0] == "student-04-T4.1-mix0.36"
    browser.click("[data-column='settings/recipe.temperature']")
    assert column(9) == sorted(column(9)) and len(set(column(9))) == 8
    browser.click("[data-column='settings/recipe.temperature']")
    assert column(9) == sorted(column(9), reverse=True)
    assert browser.js("document.querySelector('[aria-sort=descending]').innerText") == "temperature"
    browser.click("[data-column=trial]")
    assert [name[:10] for name in name_cells(browser)] == [f"student-{number:02d}" for number in range(8)]


def test_the_stage_is_the_latest_until_one_is_chosen(tmp_path, page, browser):
    write_teachers(tmp_path)
    run = write_run(tmp_path)
    page(tmp_path, run)
    assert browser.texts("#stage button") == ["Teachers"]
    assert name_cells(browser) == ["teacher-cnn-b", "teacher-cnn-a"]  # 1.033 before 1.113 of log loss
    write_search(tmp_path, 3)
    browser.wait(f"document.querySelectorAll('{ROWS}').length === 3")
    browser.wait(f"{LINES}.length === 3")
    browser.click("#stage button:nth-child(1)")
    assert drawn(browser) == {"teacher-cnn-a": 30, "teacher-cnn-b": 30}
    browser.click("#stage button:nth-child(3)")
    assert len(drawn(browser)) == len(name_cells(browser)) == 5
    assert browser.texts("#trials thead th")[1].startswith("Stage")
    assert browser.complaints == []


def test_a_run_without_validation_shows_what_it_measures(tmp_path, page, browser):
    write_trial(tmp_path / "work/search/bbbb", "student-00", 3, quality=None)
    page(tmp_path, write_run(tmp_path))
    assert browser.texts("#quantity button") == ["Loss", "Learning rate"]
    assert browser.texts("#curves-title") == ["Training loss"]
    assert browser.js(f"{LINES}[0].y.map(y => y.toFixed(2))") == ["2.42", "2.26", "2.11"]
    assert browser.texts(f"{ROWS} td:nth-child(4)") == ["\N{EN DASH}"]
    assert browser.complaints == []


def test_rows_legend_and_lines_single_out_trials(tmp_path, page, browser):
    write_search(tmp_path, 4)
    page(tmp_path, write_run(tmp_path))
    picked = "document.querySelectorAll('tr.picked').length"
    browser.click(f"{ROWS}:nth-child(2)")
    assert browser.js(picked) == 1
    assert browser.js("document.querySelectorAll('#parallel .aside').length") == 3
    browser.wait(f"{LINES}.filter(line => line.style.opacity === 1).length === 1")
    browser.click("#clear")
    assert browser.js(picked) == 0
    browser.click("#curves .entry")
    browser.wait(f"{picked} === 1")
    browser.click("#clear")
    browser.click("#parallel .line")
    assert browser.js(picked) == 1


def test_a_drag_along_an_axis_keeps_the_lines_it_covers(tmp_path, page, browser):
    write_search(tmp_path, 4)
    page(tmp_path, write_run(tmp_path))
    browser.js("document.querySelector('#parallel').scrollIntoView({behavior: 'instant', block: 'center'})")
    axis = "document.querySelector('.touch').getBoundingClientRect()"
    x, top, height = browser.js(f"(({{x, y, width, height}}) => [x + width / 2, y, height])({axis})")
    drag(browser, (x, top), (x, top + height / 2))
    temperatures = [settings_of(number)["recipe.temperature"] for number in range(4)]
    middle = (min(temperatures) + max(temperatures)) / 2
    lines = "[...document.querySelectorAll('#parallel .line')]"
    aside = browser.js(f"{lines}.filter(l => l.classList.contains('aside')).map(l => l.dataset.id)")
    assert [int(name[15:17]) for name in sorted(aside)] == [n for n, value in enumerate(temperatures) if value < middle]
    drag(browser, (x, top + 5), (x, top + 5))
    assert browser.js("document.querySelectorAll('#parallel .aside').length") == 0


def drag(browser, start, end):
    for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def test_a_gone_driver_is_said(tmp_path, page, browser):
    write_search(tmp_path, 3)
    run = write_run(tmp_path, age=3600)
    page(tmp_path, run)
    assert browser.texts("#verdict")[0].startswith("driver gone after 12 min 34 s")
    updated = datetime.fromisoformat(json.loads((run / "status.json").read_text())["updated"]).astimezone()
    notice = browser.texts(".notice")[0]
    assert "its last sign of life was at " in notice and f"{updated:%H:%M}" in notice  # and the day, after midnight
    assert set(browser.texts("#trials .state:not(.best)")) == {"interrupted"}


def test_a_gone_server_is_said_until_it_is_back(tmp_path, open_page, browser):
    run = write_run(tmp_path)
    with served(tmp_path, run) as (_, line):
        url = line.split()[4]
        open_page(url)
    browser.wait("document.querySelector('.notice')?.innerText.startsWith('No news since')")
    assert browser.texts("h1") == ["demo"]
    with served(tmp_path, run, int(url.split(":")[2].rstrip("/"))):
        browser.wait("document.querySelector('.notice') === null")


def test_a_run_is_watched_from_its_first_second(tmp_path, page, browser):
    page(tmp_path, write_run(tmp_path))
    assert len(browser.texts("#strip li")) == 5
    assert browser.texts("#nothing") == ["Trainings appear here as soon as the first one begins."]


@pytest.mark.parametrize(("width", "dark"), [(1400, True), (400, False)])
def test_the_page_fits_its_window_and_takes_its_colours(tmp_path, page, browser, width, dark):
    write_search(tmp_path, 9)
    page(tmp_path, write_run(tmp_path, state="failed", message="every trial failed"), width=width, dark=dark)
    assert browser.texts(".notice.bad") == ["The run failed: every trial failed"]
    assert browser.js("document.documentElement.scrollWidth") == width
    assert browser.js("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 27)" if dark else "rgb(251, 251, 250)"
    )


def place_of(browser, trial: int, epoch: int) -> tuple[float, float]:
    """Where the chart draws an epoch of the trial: its margins are 56 pixels left, 10 right, 10 above, 40 below."""
    values = f"{LINES}.flatMap(line => line.y)"
    low, high = browser.js(f"[Math.min(...{values}), Math.max(...{values})]")
    first, last = browser.js(f"(all => [Math.min(...all), Math.max(...all)])({LINES}.flatMap(line => line.x))")
    value = browser.js(f"{LINES}.find(l => l.name.startsWith('student-{trial:02d}')).y[{epoch - 1}]")
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    box = browser.js(
        "(({x, y, width}) => [x, y, width])(document.querySelector('#curves canvas').getBoundingClientRect())"
    )
    across = 56 + (epoch - first) / (last - first) * (box[2] - 66)
    return box[0] + across, box[1] + 10 + (1 - (value - low) / (high - low)) * 290


def test_a_point_of_a_curve_is_named_where_it_is_and_a_click_singles_its_training_out(tmp_path, page, browser):
    write_search(tmp_path, 4)
    page(tmp_path, write_run(tmp_path))
    browser.js("document.querySelector('#curves').scrollIntoView({behavior: 'instant', block: 'center'})")
    x, y = place_of(browser, 0, 30)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    accuracy = browser.js(f"{LINES}.find(l => l.name.startsWith('student-00')).y[29]")
    browser.wait("!document.querySelector('#curves .hint').hidden")
    assert browser.texts("#curves .hint") == [f"student-00-T1.0-mix0.00 epoch 30: {accuracy:.1%}"]
    drag(browser, (x, y), (x, y))
    browser.wait("document.querySelectorAll('tr.picked').length === 1")
    assert browser.texts("tr.picked code") == ["student-00-T1.0-mix0.00"]
    assert browser.complaints == []


def test_a_drag_over_the_curves_zooms_and_a_button_takes_that_back(tmp_path, page, browser):
    write_search(tmp_path, 4)
    page(tmp_path, write_run(tmp_path))
    browser.js("document.querySelector('#curves').scrollIntoView({behavior: 'instant', block: 'center'})")
    before = browser.js("document.querySelector('#curves canvas').toDataURL()")
    x, y = place_of(browser, 0, 10)
    drag(browser, (x - 150, y - 60), (x + 150, y + 60))
    browser.wait("!document.querySelector('#curves .whole').hidden")
    assert browser.js("document.querySelector('#curves canvas').toDataURL()") != before
    assert browser.js("document.querySelectorAll('tr.picked').length") == 0
    browser.click("#curves .whole")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    browser.wait("document.querySelector('#curves .whole').hidden")
    browser.wait(f"document.querySelector('#curves canvas').toDataURL() === {json.dumps(before)}")


def test_legend_entries_of_many_trainings_switch_them_off(tmp_path, page, browser):
    write_search(tmp_path, 16)
    page(tmp_path, write_run(tmp_path))
    before = browser.js("document.querySelector('#curves canvas').toDataURL()")
    browser.click("#curves .entry:nth-child(2)")
    assert browser.js("document.querySelectorAll('#curves .entry[aria-pressed=false]').length") == 1
    assert browser.js("document.querySelector('#curves canvas').toDataURL()") != before
    browser.click("#curves .entry:nth-child(2)")
    assert browser.js("document.querySelector('#curves canvas').toDataURL()") == before


def test_of_a_thousand_trainings_the_rows_that_are_seen_are_in_the_page(tmp_path, page, browser):
    work = tmp_path / "work/search/bbbb"
    for number in range(1000):
        write_trial(
            work, f"student-{number:04d}", 2, 0.5, number=number, state="finished", settings=settings_of(number)
        )
    page(tmp_path, write_run(tmp_path))
    assert len(drawn(browser)) == 1000
    browser.click("[data-column=trial]")
    shown = name_cells(browser)
    assert shown[0] == "student-0000" and len(shown) < 100
    assert browser.js("document.querySelectorAll('*').length") < 20_000
    browser.js("document.querySelector('.trainings').scrollTop = 1e9")
    browser.wait("[...document.querySelectorAll('#trials th code')].at(-1).innerText === 'student-0999'")
    assert len(name_cells(browser)) < 100
    browser.js("document.querySelector('.trainings').scrollTop = 0")
    browser.wait("document.querySelector('#trials th code').innerText === 'student-0000'")
    assert browser.complaints == []
