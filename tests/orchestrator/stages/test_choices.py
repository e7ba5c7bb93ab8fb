"""What the search and the final stage choose, where a sign or a wrong setting would not be noticed."""

from types import SimpleNamespace
from typing import Any, cast

from models.averaging import greedy
from orchestrator.config.loading import load
from orchestrator.stages.final_actor import Final
from orchestrator.stages.search import student_task
from tests.orchestrator.training.rows import Row, row_of


def row(epoch: int, log_loss: float, accuracy: float) -> Row:
    return row_of(epoch, log_loss=log_loss, accuracy=accuracy, cycle_end=True)


class Known(Final):
    """A final actor whose averages are judged by a table instead of a model."""

    def __init__(self, rows: list[Row], losses: dict[tuple[int, ...], float]) -> None:
        self.settings = cast("Any", SimpleNamespace(epochs=(6, 14), weights=None, select_by="log_loss"))
        self.journal = cast("Any", SimpleNamespace(rows=rows))
        self.losses = losses

    def averaged(self, weights: dict[int, float]) -> Any:
        return tuple(weights)

    def judge(self, model: Any) -> Any:
        return {"accuracy": 0.5, "log_loss": self.losses[model]}


def test_the_weighted_average_gives_the_better_snapshot_the_larger_weight():
    """PAPER 2.6 leaves the weights open; ours are 1 / log loss: 1 / 0.5 and 1 / 0.25."""
    final = Known([row(6, 0.5, 0.5), row(14, 0.25, 0.6)], {(14,): 0.25, (14, 6): 0.2})
    ways = final.ways()
    assert ways["weighted average"] == {6: 2.0, 14: 4.0}
    assert ways["single, epoch 14"] == {14: 1.0}
    assert ways["greedy average, 6, 14"] == {6: 1.0, 14: 1.0}


def test_greedy_leaves_out_what_changes_nothing():
    assert greedy([14, 6], lambda some: 1.0) == [14]


def test_students_are_judged_by_what_validation_is_to_judge():
    config = load("demo", ["decision=combined", "judged_by=scene"])
    assert student_task(config, config.student).decision == "scene"
