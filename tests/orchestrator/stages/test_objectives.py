"""Searches over several objectives: costs, limits, the Pareto front, and what samplers are told."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from models.seeding import derive, seeded
from orchestrator.config.experiment import Experiment
from orchestrator.config.limits import COSTS
from orchestrator.config.loading import load
from orchestrator.config.trained import apply_settings
from orchestrator.errors import UserError
from orchestrator.stages.costs import cost_of, excess, require_within_limits
from orchestrator.stages.distributions import decoded
from orchestrator.stages.objectives import front, objectives_of, ranked, values_of
from orchestrator.stages.rounds import Rounds
from orchestrator.stages.search import recalled
from orchestrator.stages.sizes import sizes_of
from orchestrator.training.record import Training, Trial
from tests.orchestrator.training.rows import row_of

SPACE = "search.space={model.stem: {low: 8, high: 32}, recipe.mixup_alpha: {low: 0.1, high: 0.6}}"
SEVERAL = [
    "search.objectives=[log_loss, bytes]",
    "search.lag=1",
    "search.trials=12",
    "search.cycle_ends=[2, 6]",
    "search.stopping=none",
]


def several(*settings: str) -> Experiment:
    """The demo with a search over log loss and bytes."""
    return load("demo", [SPACE, *SEVERAL, *settings])


class TestCosts:
    def test_the_demos_student_costs_what_is_known_of_it(self):
        """FIELD.md and the model card: 59,121 parameters of two bytes, here with every weight counted."""
        config = load("demo")
        assert cost_of(config, config.student, "bytes") == 2 * 59_121

    def test_measuring_draws_nothing_from_the_callers_generator(self):
        config = load("demo")
        student = apply_settings(config.student, {"model.stem": 9})
        with seeded("test"):
            cost_of(config, student, "peak")
            drawn = torch.rand(1)
        with seeded("test"):
            assert torch.equal(torch.rand(1), drawn)

    def test_a_wider_student_costs_more_of_everything(self):
        config = load("demo")
        narrow, wide = (apply_settings(config.student, {"model.stem": stem}) for stem in (16, 32))
        for cost in COSTS:
            assert cost_of(config, narrow, cost) < cost_of(config, wide, cost)


class TestLimits:
    def test_the_challenges_bytes_are_the_limit_where_no_other_is_set(self):
        config = load("demo", ["student.model.rows=[48, 56, 64]", "search=null"])
        require_within_limits(load("demo", ["student.model.rows=[48, 56, 64]", "search=null", "limits.bytes=null"]))
        with pytest.raises(
            UserError, match=r"the student has 2\d\d,\d{3} bytes in fp16, and at most 128,000 are allowed"
        ):
            require_within_limits(config)

    @pytest.mark.parametrize(("cost", "words"), [("macs", "multiply-accumulates"), ("peak", "activations alive")])
    def test_a_limit_that_the_student_breaks_is_one_line(self, cost, words):
        within = cost_of(load("demo"), load("demo").student, cost)
        require_within_limits(load("demo", [f"limits.{cost}={within}"]))
        with pytest.raises(UserError, match=f"{within:,} {words}.*at most {within - 1:,} are allowed"):
            require_within_limits(load("demo", [f"limits.{cost}={within - 1}"]))

    def test_proposals_keep_the_limits(self):
        config = several("search.sampler=random", "limits.bytes=112000")
        rounds = Rounds(config, recalled(config, []))
        for number in range(3, 13):
            training = rounds.training(number)
            assert training and excess(config, config.search_recipe(training.settings)) is None

    def test_what_is_beyond_the_limits_is_drawn_again_from_seeds_of_its_own(self):
        config = several("search.sampler=random", "limits.bytes=112000")
        rounds = Rounds(config, recalled(config, []))
        seeds = [config.seed, *(derive(config.seed, "draw", draw) for draw in range(1, 20))]
        draws = list[int]()
        for number in range(3, 13):
            drawn = [decoded(rounds.sampler.propose(rounds.space, [], number, seed)) for seed in seeds]
            draws.append(next(n for n, one in enumerate(drawn) if excess(config, config.search_recipe(one)) is None))
            training = rounds.training(number)
            assert training and training.settings == rounds.fixed["default"] | drawn[draws[-1]]
        assert min(draws) == 0 and max(draws) > 1

    def test_a_space_beyond_the_limits_is_one_line(self):
        config = several("search.sampler=random", "limits.bytes=1000")
        with pytest.raises(UserError, match=r"none of 100 proposals of search.space is within limits"):
            Rounds(config, recalled(config, [])).training(3)


class TestFront:
    def test_by_hand(self):
        values = {
            "small": (3.0, 1.0),
            "large": (1.0, 9.0),
            "middle": (2.0, 4.0),
            "worse": (2.5, 4.0),
            "twin": (2.0, 4.0),
        }
        assert front(values) == ["small", "large", "middle", "twin"]

    @given(st.dictionaries(st.integers(), st.tuples(*[st.integers(0, 5)] * 3), min_size=1))
    def test_whoever_is_not_on_it_is_dominated_by_one_who_is(self, values):
        best = front({name: tuple(map(float, value)) for name, value in values.items()})
        assert best
        for name, own in values.items():
            beaten = [other for other in best if values[other] != own and all(map(int.__le__, values[other], own))]
            assert bool(beaten) == (name not in best)


OWN = {"model.stem": 32, "recipe.mixup_alpha": 0.4, "recipe.soft_weight": 0.5}


def finished(number: int, log_loss: float, **settings: Any) -> Trial:
    training = Training("search", f"student-{number:02d}", number, 6, OWN | settings, "finished")
    return Trial(training, [row_of(2, log_loss + 1), row_of(6, log_loss)])


@given(st.lists(st.integers(0, 9), min_size=1))
def test_of_one_objective_the_order_is_that_of_its_values(values):
    named = {place: (float(value),) for place, value in enumerate(values)}
    assert ranked(named) == sorted(named, key=lambda place: values[place])


def test_of_several_objectives_the_front_comes_first_then_the_front_of_the_rest():
    values = {"small": (3.0, 1.0), "large": (1.0, 9.0), "behind": (1.5, 9.0), "far behind": (4.0, 9.5)}
    assert ranked(values) == ["large", "small", "behind", "far behind"]


class TestSearch:
    def test_a_proposal_knows_the_ends_of_trials_with_all_objectives(self):
        config = several()
        trials = [finished(number, 1 / number) for number in range(1, 5)]
        rounds = Rounds(config, recalled(config, trials))
        past = rounds.past(5)
        assert past is not None
        assert [trial.state for trial in past] == [TrialState.COMPLETE] * 4
        assert past[1].values == [0.5, cost_of(config, config.student, "bytes")]
        running = Trial(Training("search", "student-04", 4, 6, trials[3].training.settings), trials[3].rows[:1])
        assert Rounds(config, recalled(config, [*trials[:3], running])).past(5) is None

    def test_the_metric_that_selects_is_the_first_objective(self):
        config = several("search.objectives=[macs, accuracy, log_loss]", "select_by=accuracy")
        assert objectives_of(config) == ("accuracy", "macs", "log_loss")
        macs = cost_of(config, config.student, "macs")
        assert values_of(config, {"accuracy": 0.25, "log_loss": 2.0}, {}) == (-0.25, macs, 2.0)

    def test_sizes_name_the_front(self):
        config = several()
        trials = [
            finished(1, 1.0),
            finished(2, 1.2, **{"model.stem": 8}),
            finished(3, 1.3, **{"model.stem": 16}),
            Trial(Training("search", "student-04", 4, 6, OWN, "failed"), []),
        ]
        sizes = sizes_of(config, trials)
        assert [(one.trial, one.on_front) for one in sizes] == [
            ("student-01", True),
            ("student-02", True),
            ("student-03", False),
        ]
        assert sizes[0].bytes == 2 * 59_121 and sizes[1].bytes < sizes[2].bytes < sizes[0].bytes
        assert sizes_of(load("demo"), trials) == []

    @pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "{name: nsga2, population: 3}"])
    def test_samplers_of_several_objectives_propose_the_same_again(self, sampler):
        config = several(f"search.sampler={sampler}")
        trials: list[Trial] = []
        for number in range(1, 13):
            first, again = (Rounds(config, recalled(config, trials)).training(number) for _ in range(2))
            assert first and first == again
            rows = [row_of(2, 3.0), row_of(6, 1 + math.sin(number))]
            trials.append(Trial(Training(**{**vars(first), "state": "finished"}), rows))
        assert len({str(trial.training.settings) for trial in trials}) > 8
