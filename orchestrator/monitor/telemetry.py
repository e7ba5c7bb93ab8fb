"""What Ray's dashboard shows of trainings: lines in the log of an actor's page, and metrics.

Ray's exporter has the metrics, from which Prometheus takes them (deploy/monitoring).
"""

from ray.util.metrics import Gauge

from orchestrator.training.best import is_measured
from orchestrator.training.rows import Row

GAUGES = {  # field of a row -> description; exported as ray_stillhouse_FIELD
    "epoch": "Epochs that a training has finished.",
    "loss": "Training loss of the last epoch.",
    "accuracy": "Accuracy on validation.",
    "log_loss": "Log loss on validation.",
    "learning_rate": "Learning rate of the last epoch.",
    "clips_per_second": "Clips trained on in a second of the last epoch.",
}
TAGS = ("run", "stage", "trial")


class Telemetry:
    """Of one training, in the process that trains."""

    def __init__(self, run: str, stage: str, trial: str) -> None:
        self.trial = trial
        self.tags: dict[str, str] = dict(zip(TAGS, (run, stage, trial), strict=True))
        self.gauges = {name: Gauge(f"stillhouse_{name}", text, TAGS) for name, text in GAUGES.items()}

    def report(self, row: Row) -> None:
        """Export an epoch's row, and print what it reached on validation.

        What the row has no value for is left as it was.
        """
        for name, gauge in self.gauges.items():
            gauge.set(row[name], self.tags)
        epoch = row["epoch"]
        if is_measured(row):
            scores = f"accuracy {row['accuracy']:.3f}, log loss {row['log_loss']:.3f} on validation"
            print(f"{self.trial}, epoch {epoch}: {scores}", flush=True)
