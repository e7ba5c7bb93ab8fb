"""What TensorBoard and MLflow are told, read back by TensorFlow and by MLflow."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from orchestrator.errors import UserError
from orchestrator.finished.mlflow import log_to_mlflow
from orchestrator.monitor.tensorboard import EVENTS, records, write_tensorboard
from orchestrator.training.record import Settings
from orchestrator.training.rows import Row

# TensorFlow's reader is not the library that wrote, and checks the checksums.
READER = """
import json, sys
from tensorflow.compat.v1.train import summary_iterator
for event in summary_iterator(sys.argv[1]):
    texts = {v.tag: v.tensor.string_val[0].decode() for v in event.summary.value if v.tensor.string_val}
    scalars = {v.tag: v.simple_value for v in event.summary.value if not v.tensor.string_val}
    print(json.dumps([event.file_version, event.step, texts | scalars]))
"""
SETTINGS: Settings = {"recipe.temperature": 1.3, "model.rows": "(24, 40, 48)"}


def rows(count: int) -> list[Row]:
    """Epochs whose numbers are exact in float32; epoch 1 has no validation."""
    return [
        {
            "epoch": epoch,
            "loss": 1 / 2**epoch,
            "learning_rate": 0.125,
            "accuracy": None if epoch == 1 else 0.75,
            "log_loss": None if epoch == 1 else 0.5,
            "cycle_end": True,
            "clips_per_second": 64.0,
            "seconds": 2.0,
        }
        for epoch in range(1, count + 1)
    ]


def write(folder: Path, count: int) -> Path:
    write_tensorboard(folder, "search", "student-00", SETTINGS, rows(count))
    return folder / "search" / "student-00" / EVENTS


@pytest.mark.integration
def test_tensorflow_reads_every_epoch_once_however_often_it_is_written(tmp_path):
    for count in (0, 2, 2, 1, 3):  # 1: a training that goes on from an earlier snapshot
        file = write(tmp_path, count)
    done = subprocess.run([sys.executable, "-c", READER, file], capture_output=True, text=True, check=True)
    version, settings, *epochs = map(json.loads, done.stdout.splitlines())
    assert version == ["brain.Event:2", 0, {}]
    table = "| setting | value |\n|---|---|\n| recipe.temperature | 1.3 |\n| model.rows | (24, 40, 48) |"
    assert settings == ["", 0, {"settings/text_summary": table}]
    assert epochs == [
        ["", 1, {"loss": 0.5, "learning_rate": 0.125}],
        ["", 2, {"loss": 0.25, "learning_rate": 0.125, "accuracy": 0.75, "log_loss": 0.5}],
        ["", 3, {"loss": 0.125, "learning_rate": 0.125, "accuracy": 0.75, "log_loss": 0.5}],
    ]


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_half_a_record_is_written_again(tmp_path, cut):
    file = write(tmp_path, 2)
    whole = list(records(file.read_bytes()))
    file.write_bytes(file.read_bytes()[:-cut])
    write(tmp_path, 2)
    assert list(records(file.read_bytes())) == whole


def test_mlflow_gets_the_run_and_a_child_for_every_training(run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    parent = log_to_mlflow(run_folder)

    client = mlflow.MlflowClient()
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status) == ("demo-0123", "FINISHED")
    assert run.data.params == {"name": "demo", "student.recipe.epochs": "2"}
    assert run.data.metrics == {
        "student.torch.accuracy": 0.5,
        "student.torch.log_loss": 1.25,
        "student.tflite.accuracy": 0.5,
        "student.tflite.log_loss": 1.25,
        "student.onnx.accuracy": 0.75,
        "student.onnx.log_loss": 1.25,
        "teachers.first.accuracy": 0.5,
        "teachers.first.log_loss": 1.0,
        "complexity.parameters": 59121,
        "complexity.non_zero": 59110,
        "complexity.bytes": 118220,
        "complexity.macs": 113_300_000,
        "complexity.peak_activations": 1_228_800,
        "complexity.file_bytes.onnx": 251392,
        "complexity.file_bytes.tflite": 148624,
        "seconds.search": 4.5,
    }
    assert [file.path for file in client.list_artifacts(parent, "models")] == ["models/student.json"]
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    student, teacher = sorted(children, key=lambda child: child.info.run_name or "")
    assert student.data.params == {"stage": "search", "recipe.temperature": "1.3"}
    assert teacher.data.params == {"stage": "teachers"}
    assert set(teacher.data.metrics) == {"loss", "learning_rate", "clips_per_second", "seconds"}
    history = client.get_metric_history(student.info.run_id, "log_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.5)]


def test_without_a_server_mlflow_is_a_user_error(run_folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI to your MLflow server"):
        log_to_mlflow(run_folder)


def test_a_server_that_is_not_there_is_one_line(run_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:hunter2@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        UserError, match=r"^MLflow at http://127.0.0.1:9 does not take the run \(API request .*\); see"
    ) as told:
        log_to_mlflow(run_folder)
    assert "\n" not in str(told.value) and "hunter2" not in str(told.value)


def test_without_mlflow_the_error_says_how_to_install_it(run_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'stillhouse\[mlflow\]'"):
        log_to_mlflow(run_folder)
