"""trials.parquet holds a row a trial, and comes back as it was."""

import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import UserError
from orchestrator.training.record import Settings, State, Training, Trial
from orchestrator.training.rows import Row
from orchestrator.training.table import TrialRow, read_trials, write_trials
from tests.orchestrator.training.rows import row_of

SETTINGS: Settings = {"recipe.temperature": 2.0, "model.rows": [16, 20, 24]}


def trial(number: int, rows: list[Row], state: State = "finished", failure: str | None = None) -> Trial:
    return Trial(Training("search", f"student-{number}", number, 6, SETTINGS, state, failure), rows)


def test_a_row_is_how_far_a_trial_came_and_its_last_cycle_end():
    rows = [row_of(1, 3.0, cycle_end=False), row_of(2, 1.0), row_of(5, 0.1, cycle_end=False), row_of(6, 0.5, 0.7)]
    whole = TrialRow.of(trial(1, rows))
    assert (whole.state, whole.epochs, whole.accuracy, whole.log_loss, whole.seconds) == ("finished", 6, 0.7, 0.5, 6.0)
    assert whole.settings == {"recipe.temperature": 2.0, "model.rows": "[16, 20, 24]"}
    assert TrialRow.of(trial(2, [row_of(2, 1.0)], "stopped")).state == "stopped"
    failed = TrialRow.of(trial(3, [], "failed", "out of luck"))
    assert (failed.state, failed.failure, failed.epochs) == ("failed", "out of luck", 0)
    assert math.isnan(failed.accuracy) and math.isnan(failed.log_loss)


def test_the_table_comes_back_as_it_was_written(tmp_path):
    written = [TrialRow.of(trial(1, [row_of(6, 0.5)])), TrialRow.of(trial(2, [row_of(2, 1.0)], "stopped"))]
    write_trials(tmp_path / "trials.parquet", written)
    assert read_trials(tmp_path / "trials.parquet") == written
    assert pq.read_schema(tmp_path / "trials.parquet").names == [
        *("trial", "state", "epochs", "accuracy", "log_loss", "seconds", "seed", "cut", "wins", "failure"),
        *("recipe.temperature", "model.rows"),
    ]
    assert read_trials(tmp_path / "none.parquet") == []


def test_a_table_of_before_had_one_round(tmp_path):
    written = [TrialRow.of(trial(1, [row_of(6, 0.5)]), wins=0.25)]
    write_trials(tmp_path / "trials.parquet", written)
    table = pq.read_table(tmp_path / "trials.parquet").drop_columns(["seed", "cut", "wins"])
    pq.write_table(table, tmp_path / "trials.parquet")
    assert read_trials(tmp_path / "trials.parquet") == [replace(written[0], wins=None)]


@pytest.mark.parametrize("content", [b"no Parquet", None])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, content):
    file = tmp_path / "trials.parquet"
    pq.write_table(pa.table({"trial": ["student-1"]}), file)  # of a version that knew less
    if content:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"trials.parquet is damaged"):
        read_trials(file)
