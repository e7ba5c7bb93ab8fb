"""A run's folder as the report reads it: nothing else is looked at."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from orchestrator.storage.files import read_json, read_lines

Row = dict[str, Any]

NOT_SETTINGS = ("trial", "state", "epochs", "accuracy", "log_loss", "seconds", "failure")
"""The columns of trials.parquet that are not settings."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one finished run, read."""

    results: dict[str, Any]
    trials: list[Row]
    metrics: list[Row]  # one row an epoch: stage, trial and what training measured
    config: str  # the resolved YAML as it stands
    versions: dict[str, str]
    student: dict[str, Any]  # models/student.json: what the exported files expect and answer

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        return cls(
            results={"refit_of": None, **read_json(path / "results.json")},  # older runs have no such field
            trials=pq.read_table(trials).to_pylist() if (trials := path / "trials.parquet").exists() else [],
            metrics=read_lines(path / "metrics.jsonl"),
            config=(path / "config.yaml").read_text(encoding="utf-8"),
            versions=read_json(path / "versions.json"),
            student=read_json(path / "models" / "student.json"),
        )

    @property
    def select_by(self) -> str:
        """What trials and averages were judged by on validation."""
        return self.results["select_by"]

    @property
    def settings(self) -> list[str]:
        """Names of the settings that the search tried."""
        return [name for name in self.trials[0] if name not in NOT_SETTINGS] if self.trials else []

    @property
    def best(self) -> str | None:
        """Name of the best trial, where there was a search."""
        return self.results["best_trial"]["name"] if self.results["best_trial"] else None

    def of_stage(self, stage: str) -> dict[str, list[Row]]:
        """Trial -> its epochs, for one stage of metrics.jsonl."""
        trials: dict[str, list[Row]] = {}
        for row in self.metrics:
            if row["stage"] == stage:
                trials.setdefault(row["trial"], []).append(row)
        return trials


def finite(value: Any) -> bool:
    """Whether `value` is a number to show: failed trials have NaN or nothing."""
    return isinstance(value, int | float) and math.isfinite(value)
