"""What a training measures, an epoch a row: a line of rows.jsonl and of metrics.jsonl, and a result on Ray Tune.

Typed dictionaries, because every trial's process writes them and pydantic takes a second to import.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from typing_extensions import ReadOnly

Metric = Literal["log_loss", "accuracy"]

STAGES = ("features", "teachers", "labels", "search", "final")
"""The stages of a run, in their order."""
TRAINING_STAGES = ("teachers", "search", "final")
"""Those of them that train models."""


class Metrics(TypedDict):
    """Of a model on validation."""

    accuracy: ReadOnly[Annotated[float | None, "macro-average accuracy; null where everything is trained on"]]
    log_loss: ReadOnly[Annotated[float | None, "mean of -ln p(label); null likewise"]]


class Measured(Metrics):
    """The same where there is something to measure on."""

    accuracy: ReadOnly[float]
    log_loss: ReadOnly[float]


class Row(Metrics):
    """One epoch of one training."""

    epoch: Annotated[int, "number of the epoch, from 1"]
    loss: Annotated[float, "mean training loss of the epoch"]
    learning_rate: Annotated[float, "learning rate of the epoch's last batch"]
    cycle_end: Annotated[bool, "whether a cosine cycle ends here: where trials are compared and snapshots taken"]
    clips_per_second: Annotated[float, "clips trained on in a second of the epoch"]
    seconds: Annotated[float, "of training until here, over all interruptions"]
    device: NotRequired[Annotated[str, "the GPU's name, or cpu"]]  # rows of older runs have none


class JudgedRow(Row):
    """A row by which its training is compared with others."""

    accuracy: ReadOnly[float]
    log_loss: ReadOnly[float]


class StageRow(Row):
    """A line of metrics.jsonl: an epoch's row, and whose it is."""

    stage: Annotated[str, "teachers, search or final"]
    trial: Annotated[str, "name of the training"]


def is_row(value: Any) -> bool:
    """Whether a line has a row's values, of their types."""
    if not isinstance(value, dict) or type(value.get("epoch")) is not int or type(value.get("cycle_end")) is not bool:
        return False
    numbers = [value.get(name) for name in ("loss", "learning_rate", "clips_per_second", "seconds")]
    measured = [value.get(name, "missing") for name in ("accuracy", "log_loss")]
    return all(type(number) in (int, float) for number in [*numbers, *(one for one in measured if one is not None)])


def is_stage_row(value: Any) -> bool:
    """Whether a line is one of metrics.jsonl."""
    return is_row(value) and all(isinstance(value.get(name), str) for name in ("stage", "trial"))
