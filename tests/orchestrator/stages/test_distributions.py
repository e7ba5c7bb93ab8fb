"""The search's space: values, places and distances in it."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.config.space import Range
from orchestrator.stages.distributions import at, distance, distribution, is_within, position


def test_a_setting_keeps_its_type_and_its_scale():
    assert distribution(Range(low=16, high=64, log=True), int) == IntDistribution(16, 64, log=True)
    assert distribution(Range(low=0.25, high=8, log=True), float) == FloatDistribution(0.25, 8, log=True)
    assert distribution(Range(low=16, high=64), int) == IntDistribution(16, 64)
    assert distribution(Range(low=0.25, high=8), float) == FloatDistribution(0.25, 8)


def test_positions_and_values_are_each_others_inverse():
    kinds = FloatDistribution(1, 16, log=True), FloatDistribution(-2, 2), CategoricalDistribution(["a", "b", "c"])
    assert [at(kind, 0.5) for kind in kinds] == [pytest.approx(4.0), 0.0, "b"]
    assert [position(kind, value) for kind, value in zip(kinds, (4.0, 0.0, "b"), strict=True)] == [0.5, 0.5, 1.0]
    whole = IntDistribution(1, 4)
    assert [at(whole, share) for share in (0, 0.24, 0.25, 0.99)] == [1, 1, 2, 4]


def test_the_distance_is_the_mean_over_the_space():
    space = {"x": FloatDistribution(0, 10), "y": CategoricalDistribution(['"a"', '"b"', '"c"'])}
    assert distance(space, {"x": 2.0, "y": "a"}, {"x": 7.0, "y": "c"}) == pytest.approx((0.5 + 1) / 2)
    assert distance(space, {"x": 2.0, "y": "a"}, {"x": 2.0, "y": "a"}) == 0


def test_both_bounds_are_in_the_space():
    """The plain recipe's soft_weight, 0.0, is one."""
    space = {"x": FloatDistribution(0.0, 1.0)}
    assert [is_within(space, {"x": value}) for value in (-0.1, 0.0, 1.0, 1.1)] == [False, True, True, False]


def test_a_choice_that_is_none_of_the_space_is_outside():
    assert position(CategoricalDistribution(["a", "b"]), "c") == -1.0


def test_a_value_that_has_no_logarithm_is_outside():
    kind = FloatDistribution(0.25, 4, log=True)
    assert [position(kind, value) for value in (-1.0, 0.0, 0.25, 1.0)] == [-1.0, -1.0, 0.0, 0.5]
