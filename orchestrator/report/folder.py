"""A run's folder as the report reads it: nothing else is looked at."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.export.facts import Facts, read_facts
from orchestrator.report.schema import Results
from orchestrator.storage.runs import CONFIG, METRICS, MODELS, RESULTS, TRIALS_TABLE, VERSIONS
from orchestrator.storage.typed import read_rows, read_text, read_typed
from orchestrator.training.rows import Metric, StageRow, is_stage_row
from orchestrator.training.table import TrialRow, read_trials


@dataclass(frozen=True)
class RunFolder:
    """The files of one finished run, read."""

    results: Results
    trials: list[TrialRow]  # none where there was no search
    metrics: list[StageRow]  # one row an epoch of every training
    config: str  # the resolved YAML as it stands
    versions: dict[str, str]
    student: Facts  # what the exported files expect and answer

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        """Raises UserError where a file is damaged or of another version."""
        return cls(
            results=Results.read(path / RESULTS),
            trials=read_trials(path / TRIALS_TABLE),
            metrics=read_rows(is_stage_row, path / METRICS),
            config=read_text(path / CONFIG),
            versions=read_typed(dict[str, str], path / VERSIONS),
            student=read_facts(path / MODELS / "student.json"),
        )

    @property
    def select_by(self) -> Metric:
        """What trials and averages were judged by on validation."""
        return self.results.select_by

    @property
    def settings(self) -> list[str]:
        """Names of the settings that the search tried."""
        return list(self.trials[0].settings) if self.trials else []

    @property
    def has_last_round(self) -> bool:
        """Whether the search trained its finalists again."""
        return any(not trial.is_first for trial in self.trials)

    @property
    def best(self) -> str | None:
        """Name of the trial that the search chose, where there was one."""
        return self.results.best_trial.name if self.results.best_trial else None

    def of_stage(self, stage: str) -> dict[str, list[StageRow]]:
        """Trial -> its epochs, for one stage of metrics.jsonl."""
        trials: dict[str, list[StageRow]] = {}
        for row in self.metrics:
            if row["stage"] == stage:
                trials.setdefault(row["trial"], []).append(row)
        return trials
