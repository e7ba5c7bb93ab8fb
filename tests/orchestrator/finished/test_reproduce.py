"""What reproducing a trial says of trials that cannot be reproduced; tests/integration does those that can."""

import pytest
import torch

from orchestrator.errors import UserError
from orchestrator.finished import reproduce
from orchestrator.stages.search import Search
from orchestrator.storage.store import Store
from orchestrator.training.record import FAILED, Training, Trial
from orchestrator.training.rows import Row
from orchestrator.training.table import TrialRow, write_trials
from orchestrator.training.task import usable
from tests.orchestrator.training.rows import row_of


def test_a_trial_without_an_epoch_is_not_called_equal(tmp_path, monkeypatch):
    store = Store(tmp_path)
    training = Training(
        "search", "student-01", 1, 6, state=FAILED, failure="a student of these widths has 200,000 bytes"
    )
    training.write(store, tmp_path)
    write_trials(tmp_path / "trials.parquet", [TrialRow.of(Trial(training, []))])
    monkeypatch.setattr(reproduce, "load_run", lambda *_, **__: (None, [], Search(tmp_path, "student-02", {})))
    with pytest.raises(UserError, match="student-01 has no epoch to compare with: a student of these widths has 200"):
        reproduce.reproduce(store, tmp_path, "student-01", print)
    with pytest.raises(UserError, match="the run has no trial 'student-1'; did you mean 'student-01'"):
        reproduce.reproduce(store, tmp_path, "student-1", print)


def test_what_was_trained_on_a_gpu_is_repeated_on_one_where_there_is_one(monkeypatch):
    rows: list[Row] = [{**row_of(1, 2.0), "device": "NVIDIA H100"}]
    assert reproduce.device_of([row_of(1, 2.0)]) == "cpu"
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert reproduce.device_of(rows) == usable("cuda") == ("cuda" if there else "cpu")
        assert usable("cpu") == "cpu"


@pytest.mark.parametrize(
    ("devices", "here", "warnings"),
    [
        (["cpu", "cpu"], "cpu", []),
        (["NVIDIA H100"], "cpu", ["trained on NVIDIA H100, repeated on cpu: numbers may differ"]),
        (["NVIDIA H100"], "NVIDIA H100", ["NVIDIA H100 adds in no fixed order"]),
        (
            ["cpu", "NVIDIA A10"],
            "NVIDIA H100",
            ["trained on NVIDIA A10", "trained on cpu, repeated on", "NVIDIA H100 adds"],
        ),
    ],
)
def test_equal_numbers_are_promised_on_the_cpu_that_trained_alone(devices, here, warnings):
    rows: list[Row] = [{**row_of(epoch, 2.0), "device": device} for epoch, device in enumerate(devices, 1)]
    said = list(reproduce.cautions(rows, here, 1))
    assert list(reproduce.cautions(rows, here, 2))[:-1] == said
    assert list(reproduce.cautions(rows, here, 2))[-1].startswith("trained with others as one (search.together)")
    assert len(said) == len(warnings) and all(
        line.startswith(start) for line, start in zip(said, warnings, strict=True)
    )
