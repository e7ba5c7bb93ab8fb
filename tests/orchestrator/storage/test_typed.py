"""Files of our own are read with the types that they are meant to have, or one line names what is wrong."""

import json
from typing import NotRequired, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from features.corpus import CorpusError
from features.generated import generated_from
from orchestrator.errors import Unreadable, UserError
from orchestrator.export.facts import read_facts
from orchestrator.storage.runs import locate
from orchestrator.storage.tensors import load_training
from orchestrator.storage.typed import read_rows, read_text, read_typed
from orchestrator.training.rows import is_row, is_stage_row
from orchestrator.training.table import read_trials
from tests.orchestrator.report.sample_runs import write_run
from tests.orchestrator.watch.storages import row


class Named(TypedDict):
    names: list[str]
    count: NotRequired[int]


@pytest.mark.parametrize("value", [{"names": []}, {"names": ["a"], "count": 2}, {"names": ["a"], "more": "is ignored"}])
def test_a_value_of_its_type_is_read(tmp_path, value):
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_typed(Named, tmp_path / "x.json") == {name: value[name] for name in value if name != "more"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", r"(?<=damaged \()Input should be a valid dictionary"),
        ('{"names": "a"}', "names: Input should be a valid list"),
        ('{"names": [1]}', "names.0: Input should be a valid string"),
        ('{"count": 1}', "names: Field required"),
        ('{"names": [], "count": 1.5}', "count: Input should be a valid integer"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_another_is_one_line_that_names_file_and_place(tmp_path, text, reason):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(
        Unreadable, match=rf"x.json is damaged \(.*{reason}.*\); give the same `stillhouse run` again"
    ) as caught:
        read_typed(Named, tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_a_row_has_its_values_of_their_types():
    good = row(2, 0.5)
    assert is_row(good) and is_row(row(3, None)) and not is_row([]) and not is_row(None)
    for name in ("accuracy", "log_loss"):
        assert not is_row({key: value for key, value in good.items() if key != name}), name
    for name in ("epoch", "loss", "learning_rate", "cycle_end", "clips_per_second", "seconds"):
        assert not is_row({key: value for key, value in good.items() if key != name}), name
        assert not is_row({**good, name: "1"}), name
    assert not is_row({**good, "epoch": 1.0}) and not is_row({**good, "epoch": True})
    assert not is_row({**good, "loss": True}) and not is_row({**good, "accuracy": "0.5"})
    assert not is_stage_row(good) and not is_stage_row({**good, "stage": 1, "trial": "a"})
    assert is_stage_row({**good, "stage": "search", "trial": "a"})


def test_lines_that_are_no_rows_are_counted_from_one(tmp_path):
    file = tmp_path / "rows.jsonl"
    assert read_rows(is_row, file) == []
    file.write_text("".join(json.dumps(one) + "\n" for one in (row(1, 0.5), {"epoch": 2})))
    with pytest.raises(Unreadable, match=r"rows.jsonl is damaged \(line 2 is no row\)"):
        read_rows(is_row, file)


def test_what_is_no_text_is_damaged(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"name: \xff")
    with pytest.raises(Unreadable, match="config.yaml is damaged"):
        read_text(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("trial", 1, "0.trial: Input should be a valid string"),
        ("state", "none", "0.state: Input should be 'running', 'finished', 'stopped' or 'failed'"),
        ("epochs", "many", "0.epochs: Input should be a valid integer"),
        ("recipe.temperature", [1], "0.settings.recipe.temperature"),
    ],
)
def test_trials_of_other_types_are_damage(tmp_path, name, value, reason):
    file = write_run(tmp_path / "run") / "trials.parquet"
    table = pq.read_table(file)
    column = table.column_names.index(name) if name in table.column_names else None
    values = pa.array([value] * len(table))
    changed = table.append_column(name, values) if column is None else table.set_column(column, name, values)
    pq.write_table(changed, file)
    with pytest.raises(Unreadable, match=r"trials.parquet is damaged") as caught:
        read_trials(file)
    assert reason in str(caught.value)


def test_trials_without_a_column_or_without_their_end_are_damage(tmp_path):
    file = write_run(tmp_path / "run") / "trials.parquet"
    whole = read_trials(file)
    assert len(whole) == 16
    data = file.read_bytes()
    for part in (data[:-20], data[:100], b"", b"no Parquet", data[: len(data) // 2] + bytes(40) + data[-500:]):
        file.write_bytes(part)
        with pytest.raises(Unreadable, match=r"trials.parquet is damaged"):
            read_trials(file)
    file.write_bytes(data)
    pq.write_table(pq.read_table(file).drop_columns(["state"]), file)
    with pytest.raises(Unreadable, match=r"trials.parquet is damaged \('state'\)"):
        read_trials(file)


def test_facts_beside_a_model(tmp_path):
    file = write_run(tmp_path / "run") / "models" / "student.json"
    facts = read_facts(file)
    assert facts["front_end"].n_mels == 128 and len(facts["scenes"]) == 10
    known = json.loads(file.read_text())
    for change in ({"front_end": {"n_mels": 0}}, {"scenes": "bus"}, {"responses": {"b": ["x"]}}):
        file.write_text(json.dumps(known | change))
        with pytest.raises(Unreadable, match=r"student.json is damaged"):
            read_facts(file)


def test_results_of_another_shape_are_one_line(tmp_path):
    file = write_run(tmp_path / "run") / "results.json"
    for text in ("[]", '{"systems": 3}', '{"systems": {"1": {}}}'):
        file.write_text(text)
        with pytest.raises(Unreadable, match=r"results.json is damaged"):
            locate(str(tmp_path / "run"), "results.json")


@pytest.mark.parametrize(
    "about", [None, {}, {"epoch": "x", "rows": "[]"}, {"epoch": "1", "rows": "["}, {"epoch": "1"}, {"rows": "[]"}]
)
def test_a_snapshot_of_somebody_else_is_one_line(tmp_path, about):
    save_file({"model/weight": torch.zeros(2)}, tmp_path / "latest.safetensors", about)
    with pytest.raises(
        UserError, match=r"snapshot .*latest.safetensors cannot be read .*give the same `stillhouse run` again"
    ):
        load_training(tmp_path / "latest.safetensors")


def test_a_damaged_mark_of_a_generated_corpus_is_one_line(tmp_path):
    for text in ("{", "", "[" * 100_000, "\udcff"):
        (tmp_path / "generated.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(CorpusError, match=r"generated.json is damaged .*remove the folder"):
            generated_from(tmp_path)
