"""Rows of epochs, made up."""

from orchestrator.training.rows import Row


def row_of(epoch: int, log_loss: float, accuracy: float = 0.5, *, cycle_end: bool = True) -> Row:
    return {
        "epoch": epoch,
        "loss": 1.0,
        "learning_rate": 0.1,
        "accuracy": accuracy,
        "log_loss": log_loss,
        "cycle_end": cycle_end,
        "clips_per_second": 10.0,
        "seconds": float(epoch),
    }
