"""Which averages of a training's snapshots are tried."""

from orchestrator.stages.averages import Way, ways_of
from orchestrator.training.rows import Metrics
from tests.orchestrator.stages.test_choices import row


def test_all_ways_of_three_cycle_ends():
    rows = {6: row(6, 0.5, 0.5), 14: row(14, 0.25, 0.6), 30: row(30, 1.0, 0.6)}
    losses = {Way.of(14): 0.25, Way.of(14, 6): 0.2, Way.of(14, 6, 30): 0.3}

    def judge(way: Way) -> Metrics:
        return {"accuracy": 0.5, "log_loss": losses[way]}

    ways = ways_of(rows, (6, 14, 30), "log_loss", judge, has_moving=True)
    assert ways == {
        "last, epoch 30": Way(((30, 1.0),), False),
        "single, epoch 14": Way(((14, 1.0),), False),
        "plain average": Way(((6, 1.0), (14, 1.0), (30, 1.0)), False),
        "weighted average": Way(((6, 2.0), (14, 4.0), (30, 1.0)), False),
        "greedy average, 6, 14": Way(((6, 1.0), (14, 1.0)), False),
        "moving average, epoch 30": Way(((30, 1.0),), True),
    }
    assert next(iter(ways)) == "last, epoch 30"


def test_greedy_keeps_no_average_that_cannot_be_measured():
    rows = {6: row(6, 0.5, 0.5), 14: row(14, 0.25, 0.6)}

    def judge(_way: Way) -> Metrics:
        return {"accuracy": None, "log_loss": None}

    ways = ways_of(rows, (6, 14), "log_loss", judge, has_moving=False)
    assert ways["greedy average, 14"] == Way.of(14)
