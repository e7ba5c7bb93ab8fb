"""What the demo's student costs, by value."""

from orchestrator.config.limits import COSTS
from orchestrator.config.loading import load
from orchestrator.stages.costs import cost_of


def test_the_demos_student_has_these_costs():
    """By hand but for the macs: README.md's parameters, of two bytes; what the first block reads, and twice as much."""
    config = load("demo")
    costs = {cost: cost_of(config, config.student, cost) for cost in COSTS}
    assert costs == {"bytes": 2 * 59_121, "macs": 7_537_320, "peak": (32 + 64) * 24 * 40}
