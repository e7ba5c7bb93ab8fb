"""What is listed of each recipe of a search over several objectives, and their order."""

from orchestrator.config.limits import COSTS
from orchestrator.config.loading import load
from orchestrator.stages.costs import cost_of
from orchestrator.stages.objectives import ranked
from orchestrator.stages.sizes import Sized, sizes_of
from orchestrator.training.record import Training, Trial
from tests.orchestrator.training.rows import row_of

NARROW = {"model.stem": 8, "recipe.mixup_alpha": 0.4}


def test_a_recipe_is_listed_with_its_metrics_and_costs():
    space = "search.space={model.stem: {low: 8, high: 32}, recipe.mixup_alpha: {low: 0.1, high: 0.6}}"
    ends = "search.cycle_ends=[2, 6]"
    config = load("demo", [space, ends, "search.objectives=[log_loss, bytes]", "search.stopping=none"])
    rows = [row_of(2, 2.2), row_of(6, 1.2, 0.6)]
    trial = Trial(Training("search", "student-01", 1, 6, NARROW, "finished"), rows)
    student = config.search_recipe(NARROW)
    costs = {cost: cost_of(config, student, cost) for cost in COSTS}
    assert sizes_of(config, [trial]) == [Sized("student-01", accuracy=0.6, log_loss=1.2, on_front=True, **costs)]


def test_of_one_front_the_best_of_the_first_objective_comes_first_whatever_its_name():
    assert ranked({"a": (3.0, 1.0), "b": (1.0, 9.0)}) == ["b", "a"]
    assert ranked({"b": (3.0, 1.0), "a": (1.0, 9.0)}) == ["a", "b"]
