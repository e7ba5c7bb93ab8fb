"""What a training leaves behind is of one piece whenever it is interrupted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.fit import Epoch, Snapshot
from models.prediction import Predictions
from orchestrator.errors import UserError
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_training, snapshots_in
from orchestrator.training import journal as module
from orchestrator.training.journal import Journal, keep_trial, trials_in
from orchestrator.training.record import FINISHED, LATEST, ROWS, SCORES, STOPPED, TRIALS, State, Training, Trial
from orchestrator.training.scores import Scores, load_scores
from tests.orchestrator.training.rows import Row, row_of

ENDS = (2, 6)
LOSSES = {1: 3.0, 2: 1.0, 3: 0.5, 4: 2.0, 5: 2.0, 6: 1.5}


def row(epoch: int) -> Row:
    return row_of(epoch, LOSSES[epoch], cycle_end=epoch in ENDS)


def epoch(number: int) -> Epoch:
    snapshot = Snapshot(number, {"weight": torch.full((2,), float(number))}, {"weight": torch.zeros(2)})
    predictions = Predictions(torch.full((1, 10), number / 10), torch.empty(1, 3)) if number in ENDS else None
    return Epoch(number, 1.0, 0.1, 10.0, number in ENDS, predictions, lambda: snapshot)


def score(predictions: Predictions) -> Scores:
    return Scores.of(np.array([0]), predictions.scene.numpy())


def train(journal: Journal, until: int) -> None:
    start = len(journal.rows) + 1
    for number in range(start, until + 1):
        journal.add(row(number), epoch(number), last=number == 6)


def folder_of(store: Store) -> Path:
    return store.root / "work" / "search" / "abc" / TRIALS / "student-01"


def test_another_machine_goes_on_from_the_last_snapshot_without_gap_or_repeat(store, elsewhere):
    first = Journal(store, folder_of(store), (), score)
    assert first.resume() is None
    train(first, 5)
    second = Journal(elsewhere, folder_of(elsewhere), (), score)
    snapshot = second.resume()
    assert snapshot is not None and snapshot.epoch == 2  # the last cycle end
    assert second.rows == [row(1), row(2)]
    train(second, 6)
    last = Journal(elsewhere, folder_of(elsewhere), (), score)
    snapshot = last.resume()
    assert snapshot is not None and snapshot.model["weight"].tolist() == [6.0, 6.0]
    assert [entry["epoch"] for entry in last.rows] == [1, 2, 3, 4, 5, 6]
    assert [entry["seconds"] for entry in last.rows] == [1, 2, 2 + 3, 2 + 4, 2 + 5, 2 + 6]  # over both machines
    lines = (folder_of(elsewhere) / ROWS).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_long_cycles_are_not_lost_with_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 0.0)
    journal = Journal(Store(tmp_path), folder_of(Store(tmp_path)), (), score)
    journal.resume()
    train(journal, 5)
    assert load_training(folder_of(Store(tmp_path)) / LATEST)[0].epoch == 5


def test_the_cycle_ends_that_are_asked_for_are_kept_and_the_scores_of_all(tmp_path):
    store = Store(tmp_path)
    journal = Journal(store, folder_of(store), (6,), score)
    journal.resume()
    train(journal, 6)
    assert list(snapshots_in(folder_of(store))) == [6]
    scores = load_scores(folder_of(store) / SCORES)
    assert {number: round(float(found.loss[0]), 4) for number, found in scores.items()} == {2: 1.6094, 6: 0.5108}


def test_a_training_goes_on_from_another_that_is_its_beginning(store, elsewhere):
    """-ln 0.2 and -ln 0.6 are the scores of epochs 2 and 6; the first trial was trained for 2 epochs."""
    begun = store.root / "artifacts" / "search" / "abc" / TRIALS / "student-01"
    trial = Journal(store, begun, (), score)
    trial.resume()
    train(trial, 2)
    final = Journal(elsewhere, folder_of(elsewhere), (2, 6), score)
    snapshot = final.resume(elsewhere.root / begun.relative_to(store.root))
    assert snapshot is not None and snapshot.epoch == 2 and final.rows == [row(1), row(2)]
    train(final, 6)
    assert list(snapshots_in(folder_of(elsewhere))) == [2, 6]
    assert load_scores(folder_of(elsewhere) / SCORES).keys() == {2, 6}
    assert [entry["seconds"] for entry in final.rows] == [1, 2, 2 + 3, 2 + 4, 2 + 5, 2 + 6]
    again = Journal(elsewhere, folder_of(elsewhere), (2, 6), score)
    last = again.resume(elsewhere.root / begun.relative_to(store.root))
    assert last is not None and last.epoch == 6


def test_a_writer_given_up_for_dead_cannot_tear_what_another_goes_on_from(tmp_path):
    store = Store(tmp_path)
    old, new = (Journal(store, folder_of(store), (), score) for _ in range(2))
    old.resume()
    train(old, 3)
    new.resume()
    train(old, 6)  # still alive, and further
    train(new, 4)
    third = Journal(store, folder_of(store), (), score)
    snapshot = third.resume()
    assert snapshot is not None and [entry["epoch"] for entry in third.rows] == list(range(1, snapshot.epoch + 1))


def test_trials_are_read_by_number_and_unfinished_ones_until_their_snapshot(tmp_path):
    store, work = Store(tmp_path), tmp_path / "work" / "search" / "abc"
    cases: list[tuple[int, State, int]] = [(2, STOPPED, 2), (10, "running", 5), (1, FINISHED, 6)]
    for number, state, reached in cases:
        training = Training("search", f"student-{number:02d}", number, 6, {"recipe.temperature": 2.0}, state)
        training.write(store, work)
        journal = Journal(store, work / TRIALS / training.trial, (), score)
        journal.resume()
        train(journal, reached)
    trials = trials_in(work)
    assert [(trial.training.number, trial.epochs) for trial in trials] == [(1, 6), (2, 2), (10, 2)]
    assert trials[0].training.settings == {"recipe.temperature": 2.0}
    keep_trial(work, trials[0], tmp_path / "artifact")
    kept = {path.name for path in (tmp_path / "artifact" / TRIALS / "student-01").iterdir()}
    assert kept == {"trial.json", ROWS, SCORES}
    assert trials_in(tmp_path / "artifact") == trials[:1]
    cut = Trial(replace(trials[0].training, trial="student-01", state=STOPPED), trials[0].rows[:2])
    keep_trial(work, cut, tmp_path / "cut")
    assert trials_in(tmp_path / "cut") == [cut]
    assert load_scores(tmp_path / "cut" / TRIALS / "student-01" / SCORES).keys() == {2}


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    Training("search", "student-01", 1, 6).write(Store(tmp_path), tmp_path)
    file = tmp_path / TRIALS / "student-01" / "trial.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(UserError, match=r"student-01/trial.json is damaged .*give the same `stillhouse run` again"):
        trials_in(tmp_path)
