"""The state of a run, read from made-up storages."""

import json
from pathlib import Path

import pytest

from orchestrator.storage.store import Store
from orchestrator.watch import state
from orchestrator.watch.files import Files
from orchestrator.watch.state import Watcher
from orchestrator.watch.versions import Answer
from tests.orchestrator.watch.storages import (
    RUN,
    row,
    settings_of,
    stage,
    write_run,
    write_search,
    write_teachers,
    write_trial,
)

LONG = 120.0  # seconds after which a test gives up


@pytest.fixture(autouse=True)
def always_anew(monkeypatch):
    monkeypatch.setattr(state, "EVERY", 0.0)


def state_of(root, run):
    return json.loads(settled(Watcher(Store(root), run)).body)


def settled(watcher: Watcher, since: str = "") -> Answer:
    """The answer after the importances, which are computed aside."""
    watcher.answer()
    if watcher.importances.computing is not None:
        watcher.importances.computing.join(LONG)
    return watcher.answer(since)


def only_trial(root, **record):
    """The state's one trial after `record` has been written into the work of the search."""
    write_trial(root / "work/search/bbbb", **{"trial": "student-00", **record})
    (trial,) = state_of(root, write_run(root))["trials"]
    return trial


def test_the_status_is_passed_on(tmp_path):
    found = state_of(tmp_path, write_run(tmp_path))
    assert (found["name"], found["run"], found["state"], found["gone"]) == ("demo", RUN, "running", False)
    assert found["seconds"] == 754
    assert found["stages"][0] == {
        "name": "features",
        "state": "finished",
        "seconds": 40,
        "done": 20,
        "total": 20,
        "detail": "2,310 clips, 2 quarantined",
    }


def test_a_damaged_record_does_not_hide_the_others_and_is_named(tmp_path, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("orchestrator.watch.trials.log.warning", lambda text, *words: lines.append(text % words))
    write_trial(tmp_path / "work/search/bbbb", "one", 3, number=0)
    file = write_trial(tmp_path / "work/search/bbbb", "two", 3, number=1) / "trial.json"
    file.write_text('{"trial": "tw')
    assert [trial["trial"] for trial in state_of(tmp_path, write_run(tmp_path))["trials"]] == ["one"]
    assert lines == [f"{file} is damaged: the page leaves its training out"]


@pytest.mark.parametrize(
    ("age", "status", "gone"), [(25, {}, False), (35, {}, True), (35, {"state": "finished"}, False)]
)
def test_a_running_driver_that_is_silent_is_gone(tmp_path, age, status, gone):
    assert state_of(tmp_path, write_run(tmp_path, age=age, **status))["gone"] is gone


def test_running_trials_of_a_driver_that_has_gone_are_interrupted(tmp_path):
    write_trial(tmp_path / "work/search/bbbb", "one", 3, number=0)
    write_trial(tmp_path / "work/search/bbbb", "two", 3, number=1, state="stopped")
    assert [trial["state"] for trial in state_of(tmp_path, write_run(tmp_path))["trials"]] == ["running", "stopped"]
    gone = state_of(tmp_path, write_run(tmp_path, age=60))
    assert [trial["state"] for trial in gone["trials"]] == ["interrupted", "stopped"]


def test_a_trial_counts_with_its_last_cycle_end(tmp_path):
    trial = only_trial(tmp_path, rows=9, settings={"recipe.temperature": 1.3, "recipe.freqs": [1, 2]})
    end = row(6, 0.5)
    assert (trial["epoch"], trial["epochs"], trial["reached"]) == (9, 30, 6)
    assert trial["accuracy"] == pytest.approx(end["accuracy"], rel=1e-4)
    assert trial["log_loss"] == pytest.approx(end["log_loss"], rel=1e-4)
    assert trial["learning_rate"] == pytest.approx(row(9, 0.5)["learning_rate"], rel=1e-4)
    assert (trial["clips_per_second"], trial["seconds"]) == (412.5, 40.5)
    assert trial["curve"]["epoch"] == list(range(1, 10))
    assert [epoch for epoch, end in enumerate(trial["curve"]["cycle_end"], 1) if end] == [2, 6]
    assert trial["settings"] == {"recipe.temperature": 1.3, "recipe.freqs": "[1, 2]"}


def test_before_its_first_cycle_end_a_trial_counts_with_its_last_epoch(tmp_path):
    trial = only_trial(tmp_path, rows=1)
    assert trial["reached"] == 1
    assert trial["accuracy"] == pytest.approx(row(1, 0.5)["accuracy"], rel=1e-4)


def test_a_trial_that_has_just_begun_has_no_numbers(tmp_path):
    trial = only_trial(tmp_path)
    assert (trial["epoch"], trial["accuracy"], trial["learning_rate"]) == (0, None, None)
    assert trial["curve"]["loss"] == []


@pytest.mark.parametrize(
    "record", [{"state": 5}, {"number": "many"}, {"settings": [1]}, {"epochs": None}, {"number": 1e400}]
)
def test_a_record_of_other_types_leaves_out_its_trial(tmp_path, record):
    work = tmp_path / "work/search/bbbb"
    write_trial(work, "good", number=1)
    file = write_trial(work, "odd", number=2) / "trial.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | record))
    assert [trial["trial"] for trial in state_of(tmp_path, write_run(tmp_path))["trials"]] == ["good"]


@pytest.mark.parametrize("odd", [{"epoch": "two"}, {"loss": [1]}, {"cycle_end": "perhaps"}])
def test_rows_end_before_one_of_other_types(tmp_path, odd):
    file = write_trial(tmp_path / "work/search/bbbb", "student-00", 2) / "rows.jsonl"
    file.write_text(file.read_text() + json.dumps(row(3, 0.5) | odd) + "\n")
    (trial,) = state_of(tmp_path, write_run(tmp_path))["trials"]
    assert trial["curve"]["epoch"] == [1, 2]


def test_nothing_outside_the_storage_is_shown(tmp_path):
    """Links and names with ".." are written by whoever may write there; the page is read by others."""
    storage, secret = tmp_path / "storage", tmp_path / "secret"
    work = storage / "work/search/bbbb"
    write_trial(secret, "stolen", number=1)
    (secret / "trials/stolen/failure.txt").write_text("secret")
    own = write_trial(work, "own", number=2, state="failed")
    (own / "failure.txt").symlink_to(secret / "trials/stolen/failure.txt")
    (work / "trials/linked").symlink_to(secret / "trials/stolen")
    (storage / "work/search/outside").symlink_to(secret)
    folders = ["work/search/bbbb", "../secret", str(secret), "work/search/outside"]
    run = write_run(storage, stages=[stage("search", "running", folders=folders)])
    found = state_of(storage, run)
    assert [(trial["trial"], trial["log"]) for trial in found["trials"]] == [("own", False)]
    assert "secret" not in json.dumps(found["trials"])


@pytest.mark.parametrize("end", ['{"epoch": 4, "lo', "{", "\x00"])
def test_a_torn_last_row_is_left_out(tmp_path, end):
    file = write_trial(tmp_path / "work/search/bbbb", "torn", 3) / "rows.jsonl"
    file.write_text(file.read_text() + end)
    (trial,) = state_of(tmp_path, write_run(tmp_path))["trials"]
    assert trial["curve"]["epoch"] == [1, 2, 3]


def test_numbers_that_are_none_are_missing(tmp_path):
    path = write_trial(tmp_path / "work/search/bbbb", "student-00")
    rows = [
        row(1, 0.5) | {"accuracy": None, "log_loss": None},
        row(2, 0.5) | {"loss": float("nan"), "log_loss": float("nan")},
    ]
    (path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (trial,) = state_of(tmp_path, write_run(tmp_path))["trials"]
    assert trial["curve"]["loss"][1] is None
    assert (trial["accuracy"], trial["log_loss"], trial["epoch"]) == (None, None, 2)


def test_a_finished_stage_is_read_from_all_its_artifacts(tmp_path):
    for number, name in enumerate(("a", "b")):
        write_trial(tmp_path / f"artifacts/teacher/{name}", name, 30, stage="teachers", number=number, state="finished")
    folders = ["work/teachers/gone", "artifacts/teacher/a", "artifacts/teacher/b"]
    run = write_run(tmp_path, stages=[stage("teachers", "finished", folders=folders)])
    found = state_of(tmp_path, run)
    assert [(trial["id"], trial["state"]) for trial in found["trials"]] == [
        ("teachers/a", "finished"),
        ("teachers/b", "finished"),
    ]


def test_the_leader_is_the_best_of_those_that_got_furthest(tmp_path):
    work = tmp_path / "work/search/bbbb"
    write_trial(work, "early-and-good", 2, 0.9, state="stopped")
    write_trial(work, "far-and-good", 14, 0.6)
    write_trial(work, "far-and-bad", 14, 0.5)
    write_trial(work, "failed", 20, 0.9, state="failed", failure="killed")
    found = state_of(tmp_path, write_run(tmp_path))
    assert (found["best"], found["best_is_final"]) == ("far-and-good", False)
    found = state_of(tmp_path, write_run(tmp_path, best="far-and-bad"))
    assert (found["best"], found["best_is_final"]) == ("far-and-bad", True)


def test_before_its_first_cycle_end_no_trial_leads(tmp_path):
    work = tmp_path / "work/search/bbbb"
    write_trial(work, "ahead", 1, 0.9, number=1)
    assert state_of(tmp_path, write_run(tmp_path))["best"] is None
    write_trial(work, "judged", 2, 0.1, number=2)
    assert state_of(tmp_path, write_run(tmp_path))["best"] == "judged"


def test_the_leader_is_by_the_metric_that_selects_and_the_earlier_of_equals(tmp_path):
    work = tmp_path / "work/search/bbbb"
    for number, name, accuracy, log_loss in ((2, "equal", 0.5, 1.0), (1, "sharp", 0.5, 1.0), (3, "right", 0.6, 1.1)):
        end = row(2, 0.5) | {"accuracy": accuracy, "log_loss": log_loss}
        (write_trial(work, name, number=number) / "rows.jsonl").write_text(json.dumps(end) + "\n")
    assert state_of(tmp_path, write_run(tmp_path))["best"] == "sharp"
    assert state_of(tmp_path, write_run(tmp_path, select_by="accuracy"))["best"] == "right"


def test_parallel_coordinates_place_settings_and_outcomes(tmp_path):
    work = tmp_path / "work/search/bbbb"
    rates = (0.001, 0.01, 0.1)
    for number, (rate, labels) in enumerate(zip(rates, ("online", "stored", "<b>"), strict=True)):
        settings = {"recipe.learning_rate": rate, "labels": labels, "recipe.mixup": 0.2}
        write_trial(work, f"student-{number}", 6, 0.4 + 0.1 * number, number=number, settings=settings)
    found = state_of(tmp_path, write_run(tmp_path))["parallel"]
    rate, labels, epochs, accuracy, log_loss = found["axes"]
    assert found["trials"] == ["search/student-0", "search/student-1", "search/student-2"]
    assert (rate["name"], rate["places"]) == ("recipe.learning_rate", [0, 0.5, 1])
    assert [text for _, text in rate["ticks"]] == ["0.001", "0.0032", "0.01", "0.032", "0.1"]
    assert labels["ticks"] == [[0, "<b>"], [0.5, "online"], [1, "stored"]]
    assert (epochs["name"], epochs["places"]) == ("epochs", [0.5, 0.5, 0.5])
    assert accuracy["places"] == log_loss["places"] == [0, pytest.approx(0.5, abs=1e-3), 1]
    assert found["colours"][0] != found["colours"][2]


def test_importances_are_of_ended_trials_and_say_why_there_are_none(tmp_path):
    write_search(tmp_path, 16)
    found = state_of(tmp_path, write_run(tmp_path))
    assert sum(share for _, share in found["importances"]) == pytest.approx(1)
    assert {name for name, _ in found["importances"]} == set(found["trials"][0]["settings"])
    assert state_of(tmp_path, write_run(tmp_path, stages=[]))["no_importances"].startswith(
        "Importances need at least 4"
    )


@pytest.mark.parametrize("generated", [True, False])
def test_a_generated_corpus_is_known(tmp_path, generated):
    assert state_of(tmp_path, write_run(tmp_path, generated=generated))["generated"] is generated


def test_the_tag_changes_with_the_state_alone(tmp_path):
    write_search(tmp_path, 4)
    run = write_run(tmp_path)
    watcher = Watcher(Store(tmp_path), run)
    first = settled(watcher)
    assert watcher.answer() == first
    work = tmp_path / "work/search/bbbb"
    write_trial(work, "new", 2, number=9, settings=settings_of(9))
    second = watcher.answer()
    assert second.tag != first.tag
    file = work / "trials/new/rows.jsonl"
    file.write_text(file.read_text() + json.dumps(row(3, 0.5)) + "\n")
    assert json.loads(watcher.answer().body)["trials"][-1]["epoch"] == 3


def test_a_page_is_sent_what_has_changed_since_the_state_that_it_has(tmp_path):
    write_search(tmp_path, 6)
    run = write_run(tmp_path)
    watcher = Watcher(Store(tmp_path), run)
    first = json.loads(settled(watcher).body)
    assert first["whole"] and len(first["trials"]) == 6
    work = tmp_path / "work/search/bbbb"
    write_trial(work, "new", 2, 0.3, number=9, settings=settings_of(9))
    news = json.loads(watcher.answer(first["tag"]).body)
    assert not news["whole"] and [trial["trial"] for trial in news["trials"]] == ["new"]
    assert len(news["parallel"]["trials"]) == len(first["parallel"]["trials"]) + 1
    write_run(tmp_path, message="hello")
    last = json.loads(watcher.answer(news["tag"]).body)
    assert (last["message"], last["trials"]) == ("hello", []) and "parallel" not in last
    both = json.loads(watcher.answer(first["tag"]).body)
    assert [trial["trial"] for trial in both["trials"]] == ["new"] and both["parallel"] == news["parallel"]
    for stranger in (
        "",
        "x",
        last["tag"] + "9",
        first["tag"].replace("-", "-x"),
        "other-" + last["tag"].partition("-")[2],
    ):
        assert json.loads(watcher.answer(stranger).body)["whole"]
    next(work.glob("trials/new/trial.json")).unlink()
    assert len(json.loads(watcher.answer(last["tag"]).body)["trials"]) == 6  # whole, since one has gone


def test_of_many_epochs_of_many_trainings_some_are_drawn(tmp_path):
    work = tmp_path / "work/search/bbbb"
    ends = (100, 200, 399)
    rows = [row(1, 0.5) | {"epoch": epoch, "cycle_end": epoch in ends} for epoch in range(1, 401)]
    for number in range(300):
        file = write_trial(work, f"student-{number}", number=number, epochs=400) / "rows.jsonl"
        file.write_text("".join(json.dumps(one) + "\n" for one in rows) if number == 0 else "")
    trial = state_of(tmp_path, write_run(tmp_path))["trials"][0]
    assert 120 < len(trial["curve"]["epoch"]) <= 128 and {1, 100, 200, 399, 400} <= set(trial["curve"]["epoch"])
    assert [epoch for epoch, end in zip(trial["curve"]["epoch"], trial["curve"]["cycle_end"], strict=True) if end] == [
        *(100, 200, 399)
    ]
    assert (trial["epoch"], trial["reached"]) == (400, 399)


def test_a_remote_storage_is_copied_without_its_snapshots(tmp_path, monkeypatch, s3):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "mirror"))
    remote = tmp_path / "remote"
    write_teachers(remote)
    write_search(remote, 6)
    write_run(remote, generated=True)
    (remote / "work/search/bbbb/trials/student-00-T1.0-mix0.00/latest.safetensors").write_bytes(b"weights")
    store = Store(s3.format(tmp_path.name))
    upload(store, remote)
    watcher = Watcher(store, store.root / RUN)
    found = json.loads(watcher.answer().body)
    assert (len(found["trials"]), found["generated"]) == (8, True)
    assert (watcher.log("search", "student-05-T4.8-mix0.65") or b"").endswith(b"not finite in epoch 5\n")
    root = Files(store).root
    assert root != store.root
    assert not store.root.exists()
    assert not list(root.rglob("*.safetensors"))

    write_trial(remote / "work/search/bbbb", "new", 2, number=9, settings=settings_of(9))
    upload(store, remote)
    assert len(json.loads(watcher.answer().body)["trials"]) == 9


def upload(store: Store, folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    store.remote.put({file.relative_to(folder).as_posix(): file for file in files})


def test_a_run_that_has_ended_is_not_read_again(tmp_path):
    write_search(tmp_path, 3)
    watcher = Watcher(Store(tmp_path), write_run(tmp_path, state="finished"))
    first = settled(watcher)
    write_trial(tmp_path / "work/search/bbbb", "late", 2)
    assert watcher.answer() is first


def test_a_stage_whose_work_is_being_removed_shows_what_is_left(tmp_path):
    write_search(tmp_path, 3)
    watcher = Watcher(Store(tmp_path), write_run(tmp_path))
    assert len(json.loads(watcher.answer().body)["trials"]) == 3
    next(tmp_path.glob("work/search/bbbb/trials/*/trial.json")).unlink()
    assert len(json.loads(watcher.answer().body)["trials"]) == 2


def test_trials_of_the_last_round_lead_nothing_and_are_not_compared_with_the_first(tmp_path):
    work = tmp_path / "work/search/bbbb"
    for number in range(1, 6):
        write_trial(
            work, f"student-{number:02d}", 30, 0.5, number=number, state="finished", settings=settings_of(number)
        )
    write_trial(work, "student-01-seed1", 30, 0.9, number=6, seed=1, state="finished", settings=settings_of(1))
    found = state_of(tmp_path, write_run(tmp_path))
    assert found["best"] == "student-01" and len(found["trials"]) == 6
    assert len(found["parallel"]["trials"]) == 5
