"""Metrics of trainings for Ray's exporter, from which Prometheus takes them (deploy/monitoring)."""

from ray.util.metrics import Gauge

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


class Gauges:
    """The gauges of one training, in the process that trains."""

    def __init__(self, run: str, stage: str, trial: str) -> None:
        self.tags: dict[str, str] = dict(zip(TAGS, (run, stage, trial), strict=True))
        self.gauges = {name: Gauge(f"stillhouse_{name}", text, TAGS) for name, text in GAUGES.items()}

    def report(self, row: Row) -> None:
        """Export an epoch's row. What it has no value for is left as it was."""
        for name, gauge in self.gauges.items():
            gauge.set(row[name], self.tags)
