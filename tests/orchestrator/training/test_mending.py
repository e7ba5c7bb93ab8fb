"""Work in progress that was torn ends as it would have."""

from pathlib import Path

import pytest

from orchestrator.storage.store import Store
from orchestrator.training.journal import Journal, trials_in
from orchestrator.training.mending import mend
from orchestrator.training.record import FINISHED, LATEST, ROWS, RUNNING, SCORES, TRIAL, TRIALS, State, Training
from tests.orchestrator.training.test_journal import row, score, train


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def work(tmp_path, told) -> tuple[Store, Path]:
    store = Store(tmp_path)
    store.tell = told.append
    work = tmp_path / "work" / "search" / "abc"
    cases: list[tuple[int, State, int]] = [(1, FINISHED, 6), (2, RUNNING, 6)]
    for number, state, reached in cases:
        training = Training("search", f"student-{number:02d}", number, 6, {}, state)
        training.write(store, work)
        journal = Journal(store, work / TRIALS / training.trial, (2, 6), score)
        journal.resume()
        train(journal, reached)
    return store, work


def folder(work: Path, number: int) -> Path:
    return work / TRIALS / f"student-{number:02d}"


def tear(file: Path, keep: int = 10) -> None:
    file.write_bytes(file.read_bytes()[:keep])


def test_what_is_whole_is_left_alone(work, told):
    before = {file: file.read_bytes() for file in work[1].rglob("*") if file.is_file()}
    mend(*work)
    assert {file: file.read_bytes() for file in work[1].rglob("*") if file.is_file()} == before and told == []


@pytest.mark.parametrize("keep", [0, 10])
@pytest.mark.parametrize(
    ("number", "name"), [(1, TRIAL), (2, TRIAL), (1, ROWS), (1, SCORES), (2, SCORES), (1, "epoch-0002.safetensors")]
)
def test_a_training_whose_record_is_torn_begins_anew_and_the_other_stays(work, told, number, name, keep):
    if name == ROWS and keep == 0:
        pytest.skip("rows without a line are those of no epoch")
    tear(folder(work[1], number) / name, keep)
    mend(*work)
    assert not folder(work[1], number).exists() and folder(work[1], 3 - number).exists()
    assert len(told) == 1 and told[0].startswith(f"  student-{number:02d} is trained again: ") and name in told[0]
    assert [trial.training.number for trial in trials_in(work[1])] == [3 - number]


def test_a_folder_without_a_record_is_of_a_start_that_was_cut_short(work):
    store, place = work
    folder(place, 3).mkdir()
    mend(store, place)
    assert not folder(place, 3).exists() and folder(place, 1).exists()


def test_a_torn_snapshot_gives_way_to_the_one_before(work, told):
    store, place = work
    tear(folder(place, 2) / LATEST)
    tear(folder(place, 2) / "epoch-0006.safetensors")
    mend(store, place)
    assert len(told) == 2 and all("resumes from an earlier snapshot" in line for line in told)
    journal = Journal(store, folder(place, 2), (2, 6), score)
    snapshot = journal.resume()
    assert snapshot is not None and snapshot.epoch == 2 and journal.rows == [row(1), row(2)]
    train(journal, 6)
    again = journal.resume()
    assert again is not None and again.model["weight"].tolist() == [6.0, 6.0]


def test_without_a_whole_snapshot_a_training_begins_at_its_first_epoch(work):
    store, place = work
    for file in folder(place, 2).glob("*.safetensors"):
        if file.name != SCORES:
            tear(file)
    mend(store, place)
    assert Journal(store, folder(place, 2), (2, 6), score).resume() is None
    assert trials_in(place)[1].rows == []
