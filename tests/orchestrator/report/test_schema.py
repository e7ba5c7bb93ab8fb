"""results.json comes back as it was written, and one of another version is one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.errors import UserError
from orchestrator.finished.mlflow import log_to_mlflow
from orchestrator.finished.refit import refit_of
from orchestrator.finished.reproduce import load_run
from orchestrator.monitor.schema import RunStatus
from orchestrator.report.build import write_model_card, write_report
from orchestrator.report.schema import Results, Systems
from orchestrator.report.systems import write_table
from orchestrator.storage.files import read_json, write_json
from orchestrator.storage.store import Store
from orchestrator.submission.package import development_of
from tests.orchestrator.report.sample_runs import edit_results, make_results, make_trials, write_run


def test_results_come_back_as_they_were_written(tmp_path):
    known = make_results()
    results = Results.model_validate(known)
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results
    assert read_json(tmp_path / "results.json") == known  # the names and values that scripts rely on
    assert list(read_json(tmp_path / "results.json")) == list(known)


def test_a_misspelt_field_is_no_results():
    with pytest.raises(ValidationError, match="log_los"):
        Results.model_validate(make_results() | {"log_los": 1})


def test_a_ragged_confusion_matrix_is_no_results():
    known = make_results()
    known["models"]["plain"]["confusion"][3].pop()
    with pytest.raises(ValidationError, match="the rows are not as long as there are scenes"):
        Results.model_validate(known)


def test_what_the_first_schema_wrote_is_read(tmp_path):
    known = make_results()
    known["schema"] = 1
    del known["distilled"], known["refit_of"], known["complexity"]["peak_activations"]
    write_json(tmp_path / "results.json", known)
    results = Results.read(tmp_path / "results.json")
    assert results.distilled and results.refit_of is None and results.complexity.peak_activations is None


def commands(run: Path) -> list[Callable[[], object]]:
    """All that read the results of a finished run."""
    return [
        lambda: write_report(run),
        lambda: write_model_card(run),
        lambda: refit_of(run, False),
        lambda: load_run(Store(run.parent), run),
        lambda: log_to_mlflow(run),
        lambda: development_of(run),
    ]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (5, r"results.json has schema 5, of a newer Stillhouse; this one reads up to 4: update Stillhouse"),
        (0, r"results.json has schema 0, of an older Stillhouse; .*give the same `stillhouse run` again"),
        (None, r"results.json is damaged \(it has no schema number\); give the same `stillhouse run` again"),
    ],
)
def test_results_of_another_version_are_one_line_whoever_reads_them(tmp_path, monkeypatch, schema, message):
    monkeypatch.setattr("orchestrator.finished.refit.load", lambda _: None)
    run = write_run(tmp_path / "run", make_trials(1))
    edit_results(run, lambda results: results.update(schema=schema))
    for command in commands(run):
        with pytest.raises(UserError, match=message) as told:
            command()
        assert "\n" not in str(told.value)


def test_a_field_that_is_missing_is_named(tmp_path):
    def drop(results: dict[str, Any]) -> None:
        del results["corpus"]["data_hash"]

    run = write_run(tmp_path / "run", make_trials(1))
    edit_results(run, drop)
    with pytest.raises(UserError, match=r"\(corpus.data_hash: Field required\): give the same `stillhouse run` again"):
        write_report(run)


def test_a_set_of_systems_and_a_status_of_another_version_are_one_line(tmp_path):
    write_json(tmp_path / "results.json", {"schema": 9, "systems": {}})
    with pytest.raises(UserError, match="results.json has schema 9, of a newer Stillhouse"):
        write_table(tmp_path)
    write_json(tmp_path / "status.json", {"schema": 0})
    with pytest.raises(UserError, match="status.json has schema 0, of an older Stillhouse"):
        RunStatus.read(tmp_path / "status.json")
    assert (Systems.newest, RunStatus.newest) == (1, 2)
