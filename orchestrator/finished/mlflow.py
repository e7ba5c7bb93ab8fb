"""A finished run in MLflow."""

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config.plain_yaml import parse_yaml
from orchestrator.errors import UserError
from orchestrator.finished.compare import flat
from orchestrator.storage.runs import CONFIG, MODELS, REPORT, RESULTS, VERSIONS

if TYPE_CHECKING:
    from orchestrator.report.folder import RunFolder
    from orchestrator.report.schema import Report, Results

BATCH = {"metrics": 1000, "params": 100}  # what an MLflow server takes at once
LONGEST = 6000  # characters of a parameter, for the same reason


def log_to_mlflow(run_folder: Path) -> str:
    """Copy a finished run to the MLflow server that MLFLOW_TRACKING_URI names; the ID of the run there.

    It holds the results, the settings and the files; each training is a child of it. Raises UserError where MLflow
    does not take it.
    """
    from orchestrator.report.folder import RunFolder

    run = RunFolder.read(run_folder)
    with answering() as client:
        return copied(run_folder, run, client)


def copied(run_folder: Path, run: "RunFolder", client: Any) -> str:
    """Everything of a run, copied to MLflow; the ID of the run there."""

    experiment = client.get_experiment_by_name(run.results.name)
    where = experiment.experiment_id if experiment else client.create_experiment(run.results.name)
    parent = log_run(
        client, where, run_folder.name, flat(parse_yaml(run.config, "config.yaml")), [results_row(run.results)]
    )
    for name in (MODELS, Path(REPORT).parent.name):
        client.log_artifacts(parent, str(run_folder / name), name)
    for name in (RESULTS, CONFIG, VERSIONS):
        client.log_artifact(parent, str(run_folder / name))
    settings = {trial.trial: trial.settings for trial in run.trials}
    for stage in dict.fromkeys(row["stage"] for row in run.metrics):
        for trial, rows in run.of_stage(stage).items():
            log_run(client, where, trial, {"stage": stage, **settings.get(trial, {})}, rows, parent)
    return parent


@contextmanager
def answering() -> Iterator[Any]:
    """A client of MLflow for the block; what MLflow objects to is the user's to resolve."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise UserError("set MLFLOW_TRACKING_URI to your MLflow server, such as http://host:5000, or to a folder")
    if "://" not in uri or uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow discourages folders since 3.7
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of its 7, which last for minutes
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise UserError("MLflow is not installed: pip install 'stillhouse[mlflow]'") from None
    try:
        yield MlflowClient(uri)
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0]
        text = f"MLflow at {uri} does not take the run ({reason}); see MLFLOW_TRACKING_URI"
        raise UserError(re.sub(r"(?<=://)[^/\s]*@", "", text)) from None  # a name and a password


def log_run(
    client: Any,
    experiment: str,
    name: str,
    parameters: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    parent: str | None = None,
) -> str:
    """One run of MLflow: `rows` hold what was measured, by epoch where they have one."""
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    tags = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
    run = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    now = time.time_ns() // 10**6
    params = [Param(key, str(value)[:LONGEST]) for key, value in parameters.items()]
    metrics = [Metric(key, value, now, row.get("epoch", 0)) for row in rows for key, value in measured(row).items()]
    for kind, values in (("params", params), ("metrics", metrics)):
        for start in range(0, len(values), BATCH[kind]):
            client.log_batch(run, **{kind: values[start : start + BATCH[kind]]})
    client.set_terminated(run)
    return run


def measured(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row is a finite number, and no flag."""
    numbers = {key: value for key, value in row.items() if type(value) in (int, float) and key != "epoch"}
    return {key: value for key, value in numbers.items() if math.isfinite(value)}


def results_row(results: "Results") -> dict[str, float]:
    """The figures of results.json that runs are compared by: of every model and format, and the student's size."""
    models = {name: {"accuracy": report.accuracy, "log_loss": report.log_loss} for name, report in reports(results)}
    kept = {"complexity": results.complexity.model_dump(mode="json", exclude_none=True), "seconds": results.seconds}
    return flat({**models, **kept})


def reports(results: "Results") -> "Iterator[tuple[str, Report]]":
    """The reports of a run's models by dotted name: student.tflite, teachers.NAME and so on."""
    models = results.models
    if models is None:
        return
    yield from ((f"student.{name}", report) for name, report in models.student.items())
    yield from ((name, report) for name, report in (("plain", models.plain), ("ensemble", models.ensemble)) if report)
    yield from ((f"teachers.{name}", report) for name, report in models.teachers.items())
