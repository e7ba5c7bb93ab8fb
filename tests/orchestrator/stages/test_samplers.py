"""What samplers make of a seed, a number and the trials before."""

from typing import Any

import optuna
import pytest
import torch
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

from models.seeding import derive
from orchestrator.config.loading import load
from orchestrator.config.search import (
    GaussianProcessSettings,
    GeneticSettings,
    RandomSettings,
    SobolSettings,
    TpeSettings,
)
from orchestrator.stages import samplers
from orchestrator.stages.distributions import at, distributions
from orchestrator.stages.rounds import frozen
from orchestrator.stages.samplers import GaussianProcess, Genetic, Random, Sobol, Tpe, asked, seed_of
from tests.orchestrator.stages.test_rounds import CONFIG, trial, whole

SPACE = distributions(CONFIG)


def known(count: int) -> list[FrozenTrial]:
    return [frozen(CONFIG, SPACE, whole(number, 1.0)) for number in range(1, count + 1)]


def test_sobols_points_are_those_of_the_scrambled_sequence_by_a_seed_of_its_own():
    """Others would change the first trials of every search."""
    engine = torch.quasirandom.SobolEngine(len(SPACE), scramble=True, seed=derive(0, "search", "sobol") % 2**32)
    for number, point in enumerate(engine.draw(4, dtype=torch.float64).tolist(), 1):
        expected = {name: at(kind, share) for (name, kind), share in zip(SPACE.items(), point, strict=True)}
        assert Sobol(SobolSettings()).propose(SPACE, [], number, 0) == expected


@pytest.mark.parametrize(
    "sampler",
    [
        Random(RandomSettings()),
        Tpe(TpeSettings()),
        GaussianProcess(GaussianProcessSettings()),
        Genetic(GeneticSettings(population=2)),
    ],
)
def test_a_sampler_draws_by_the_seed_and_the_number(sampler):
    space = distributions(load("demo"))
    asked_for = (12, 0), (12, 0), (13, 0), (12, 1)
    first, again, following, other = (sampler.propose(space, [], number, seed) for number, seed in asked_for)
    assert first == again and first != following != other != first


def test_samplers_that_learn_do_so_from_the_first_trial_on_of_all_settings_at_once_and_of_running_trials(monkeypatch):
    monkeypatch.setattr(samplers, "asked", lambda sampler, space, past: sampler)
    for name in ("TPESampler", "GPSampler"):
        monkeypatch.setattr(optuna.samplers, name, lambda **options: options)
    options = {"n_startup_trials": 1, "seed": seed_of(0, 12)}
    assert Tpe(TpeSettings()).propose({}, [], 12, 0) == options | {"multivariate": True, "constant_liar": True}
    assert GaussianProcess(GaussianProcessSettings()).propose({}, [], 12, 0) == options


def test_a_gaussian_process_learns_from_first_cycle_ends_and_of_several_objectives_from_the_last(monkeypatch):
    past = [*known(1), frozen(CONFIG, SPACE, trial(2, "running"))]
    params, ends = past[0].params, {2: 9.0}
    two = optuna.trial.create_trial(params=params, distributions=SPACE, values=[1.0, 2.0], intermediate_values=ends)
    monkeypatch.setattr(samplers, "asked", lambda sampler, space, past: past)
    propose: Any = GaussianProcess(GaussianProcessSettings()).propose
    first, begun = propose(SPACE, past, 12, 0)
    assert (first.state, first.values, first.params) == (TrialState.COMPLETE, [2.0], params) and begun is past[1]
    assert propose(SPACE, [two], 12, 0) == [two]


def test_optuna_is_asked_in_as_many_directions_as_trials_have_values():
    two = optuna.trial.create_trial(params=known(1)[0].params, distributions=SPACE, values=[1.0, 2.0])
    assert asked(optuna.samplers.RandomSampler(seed=0), SPACE, [two]).keys() == SPACE.keys()


def test_generations_are_complete_trials_in_the_order_of_their_numbers(monkeypatch):
    monkeypatch.setattr(samplers, "asked", lambda sampler, space, past: (sampler, past))
    past = [*known(2), frozen(CONFIG, SPACE, trial(3, "failed")), *known(1)]
    propose: Any = Genetic(GeneticSettings(population=2)).propose
    sampler, generations = propose(SPACE, past, 12, 0)
    assert isinstance(sampler, NSGAIISampler) and sampler.population_size == 2
    key = sampler._get_generation_key()
    assert [one.system_attrs for one in generations] == [{key: place} for place in (0, 0, 1)]
