"""A run is found by the address that a person gives, and its files by names that others rely on."""

import pytest

from orchestrator.errors import UserError
from orchestrator.storage import runs
from orchestrator.storage.files import write_json
from orchestrator.storage.runs import RESULTS, STATUS, locate
from orchestrator.storage.store import Store


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (runs.STATUS, "status.json"),
        (runs.CONFIG, "config.yaml"),
        (runs.VERSIONS, "versions.json"),
        (runs.TRIALS_TABLE, "trials.parquet"),
        (runs.METRICS, "metrics.jsonl"),
        (runs.QUARANTINE, "quarantine.csv"),
        (runs.LOG, "log.txt"),
        (runs.TENSORBOARD, "tensorboard"),
        (runs.MODELS, "models"),
        (runs.REPORT, "report/index.html"),
        (runs.MODEL_CARD, "model_card.md"),
    ],
)
def test_others_rely_on_the_names_of_a_run_s_files(ours, name):
    assert ours == name


@pytest.mark.parametrize(
    ("address", "storage", "name"),
    [
        ("s3://b/runs/demo-1", "s3://b/runs", "demo-1"),
        ("s3://b/runs/demo-1/", "s3://b/runs", "demo-1"),
        ("s3://b/runs/demo-X?region=eu", "s3://b/runs?region=eu", "demo-X"),
    ],
)
def test_a_run_s_address_is_its_storage_s_and_its_name(monkeypatch, address, storage, name):
    monkeypatch.setattr(Store, "has", lambda store, path: path.name == STATUS)
    store, folder = locate(address, STATUS)
    assert (store.uri, folder) == (storage, store.root / name)


@pytest.mark.parametrize("needed", [RESULTS, STATUS])
def test_of_a_table_of_several_runs_these_are_named(store, needed):
    table = store.root / "table"
    write_json(table / RESULTS, {"systems": {"1": {"run": "demo-3"}, "2": {"run": "demo-1"}, "3": {"run": "demo-3"}}})
    store.push(table)
    with pytest.raises(UserError) as caught:
        locate(store.address(table), needed)
    assert str(caught.value) == (
        f"{store.address(table)} is a table of several runs; give one of them, in the same storage: demo-1, demo-3"
    )


def test_a_run_under_way_is_not_fetched(store, elsewhere):
    for name in (RESULTS, STATUS):
        write_json(store.root / "demo-1" / name, {"systems": {"1": {"run": "demo-3"}}})
    store.push(store.root / "demo-1")
    _, folder = locate(elsewhere.address(elsewhere.root / "demo-1"), STATUS)
    assert folder == elsewhere.root / "demo-1" and folder.exists() is not store.is_remote
