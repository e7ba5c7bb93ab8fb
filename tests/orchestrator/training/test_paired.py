"""Differences with their intervals: by hand, against scikit-learn, against what is known of the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss

from orchestrator.training.metrics import MeanOver, objective
from orchestrator.training.paired import DRAWS, Clips, Compared, draws_of, metric_in, metric_of, weights_of
from orchestrator.training.rows import Metric
from orchestrator.training.scores import Scores, load_scores, save_scores

RNG = np.random.default_rng(0)
LABELS = np.array([0, 0, 1, 1, 2, 2, 0, 1])
DEVICES = ("a", "a", "a", "a", "a", "a", "b", "b")
LOCATIONS = ("x", "x", "y", "y", "z", "z", "x", "y")
CLIPS = Clips(LABELS, DEVICES, LOCATIONS)


def scores(loss: float, hit: bool = True, noise: float = 0.0) -> Scores:
    return Scores((loss + noise * RNG.normal(size=8)).astype(np.float32), np.full(8, hit))


@pytest.mark.parametrize("mean_over", ["clips", "devices"])
@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_a_metric_of_scores_is_that_of_the_probabilities(metric: Metric, mean_over: MeanOver):
    probabilities = RNG.dirichlet(np.ones(3), 8)
    found = metric_of(Scores.of(LABELS, probabilities), CLIPS, metric, mean_over)
    assert found == pytest.approx(objective(LABELS, probabilities, DEVICES, mean_over)[metric], rel=1e-6)


def test_means_over_devices_are_those_of_each_devices_own():
    probabilities = RNG.dirichlet(np.ones(3), 8)
    rows = [np.array(DEVICES) == name for name in "ab"]
    losses = [sklearn_log_loss(LABELS[some], probabilities[some], labels=[0, 1, 2]) for some in rows]
    shares = [balanced_accuracy_score(LABELS[some], probabilities[some].argmax(1)) for some in rows]
    found = objective(LABELS, probabilities, DEVICES, "devices")
    assert (found["log_loss"], found["accuracy"]) == pytest.approx((np.mean(losses), np.mean(shares)))
    assert objective(LABELS, probabilities, ("",) * 8, "devices") == objective(LABELS, probabilities, (), "clips")


def test_a_location_is_drawn_as_a_whole():
    weights = weights_of(CLIPS, seed=1)
    assert weights.shape == (DRAWS, 8)
    for name in "xyz":
        mine = weights[:, np.array(LOCATIONS) == name]
        assert (mine == mine[:, :1]).all()
    assert weights[:, [0, 2, 4]].sum(1) == pytest.approx(3)  # n - 1 of n locations, scaled to n


def test_by_hand_a_weighted_metric():
    """Location x twice, z never: device a has clips 0 to 3 with weights 2, 2, 1, 1, device b clips 6, 7 with 2, 1."""
    loss = np.arange(8, dtype=np.float32)
    draws = np.array([[2.0, 2, 1, 1, 0, 0, 2, 1]])
    one = Scores(loss, np.array([True, False, True, True, False, False, False, True]))
    clips = (0 * 2 + 1 * 2 + 2 + 3 + 6 * 2 + 7) / 9
    devices = ((0 * 2 + 1 * 2 + 2 + 3) / 6 + (6 * 2 + 7) / 3) / 2
    assert metric_in(draws, [one], CLIPS, "log_loss", "clips")[0, 0] == pytest.approx(clips)
    assert metric_in(draws, [one], CLIPS, "log_loss", "devices")[0, 0] == pytest.approx(devices)
    by_class = (2 / 6 + 3 / 3) / 2  # of scene 0 two of six, of scene 1 all of three; scene 2 was not drawn
    assert metric_in(draws, [one], CLIPS, "accuracy", "clips")[0, 0] == pytest.approx(by_class)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_bootstrap_has_the_variance_of_a_mean(count):
    """Of n values the variance of the mean is s^2 / n, s^2 with n - 1, which drawing n of n would miss for small n."""
    values = np.arange(count, dtype=float)
    means = draws_of(count, np.random.default_rng(0)) @ values / count
    assert means.var() == pytest.approx(values.var(ddof=1) / count, rel=0.1)
    assert means.mean() == pytest.approx(values.mean(), rel=0.1)


def test_what_differs_by_the_same_everywhere_is_certain():
    found = Compared.of([[scores(1.0)], [scores(1.5)]], CLIPS, "log_loss", "devices", 0).difference(1, 0)
    assert (found.value, found.low, found.high, found.error) == pytest.approx((0.5, 0.5, 0.5, 0.0))


def test_the_interval_of_seeds_alone_is_wider_with_fewer_seeds():
    """By hand: two seeds differ by -1 and +1, so half of the draws have one, half the other."""
    models = [[scores(1.0), scores(3.0)], [scores(2.0), scores(2.0)]]
    found = Compared.of(models, CLIPS, "log_loss", "clips", 0).difference(0, 1)
    assert (found.value, found.low, found.high) == pytest.approx((0.0, -1.0, 1.0))
    assert found.error == pytest.approx(1.0, rel=0.01)


def test_wins_are_shares_of_the_draws():
    models = [[scores(2.0)], [scores(1.0)], [scores(3.0)]]
    assert Compared.of(models, CLIPS, "log_loss", "clips", 0).wins(is_lower_better=True).tolist() == [0, 1, 0]
    assert Compared.of(models, CLIPS, "log_loss", "clips", 0).wins(is_lower_better=False).tolist() == [0, 0, 1]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """200 made-up tests of 40 locations with 5 clips; the second model's loss is higher by 0.1, with noise a place."""
    covered = 0
    for repetition in range(200):
        rng = np.random.default_rng(repetition)
        places = np.repeat(np.arange(40), 5)
        clips = Clips(np.zeros(200, int), ("",) * 200, tuple(map(str, places)))
        base = rng.normal(1, 0.5, 200)
        other = base + 0.1 + rng.normal(0, 0.3, 40)[places] + rng.normal(0, 0.2, 200)
        models = [[Scores(values.astype(np.float32), np.full(200, True))] for values in (base, other)]
        found = Compared.of(models, clips, "log_loss", "clips", 0).difference(1, 0)
        covered += found.low <= 0.1 <= found.high
    assert 0.90 <= covered / 200 <= 0.98


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_difference_is_the_negative_of_its_opposite(seed):
    models = [[scores(1.0, noise=0.5)], [scores(1.2, noise=0.5)]]
    compared = Compared.of(models, CLIPS, "log_loss", "devices", seed)
    one, other = compared.difference(0, 1), compared.difference(1, 0)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_scores_come_back_as_they_were(tmp_path):
    found = {2: scores(1.0, noise=1.0), 14: scores(2.0, hit=False)}
    save_scores(tmp_path / "scores", found)
    again = load_scores(tmp_path / "scores")
    assert list(again) == [2, 14]
    assert (again[2].loss == found[2].loss).all() and not again[14].hit.any()
    assert load_scores(tmp_path / "nothing") == {}
