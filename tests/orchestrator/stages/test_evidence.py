"""What a search's choice goes by: costs, the last cycle end, and means over devices."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.corpus import Clip
from features.maps import FeatureMap
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.stages.choice import choose, wins_of
from orchestrator.training.data import Features, Split
from orchestrator.training.paired import clips_of
from orchestrator.training.record import SCORES, TRIALS, Settings, Training, Trial
from orchestrator.training.scores import Scores, save_scores
from tests.orchestrator.training.rows import row_of

CLIPS, ENDS = 60, (2, 4, 6)
SEARCH = [f"search.cycle_ends={list(ENDS)}", "search.finalists=0", "search.trials=4", "search.stopping=none"]
OWN: Settings = {
    "recipe.scene_weight": 0.9,
    "recipe.soft_weight": 0.5,
    "recipe.temperature": 2.0,
    "recipe.mixup_alpha": 0.4,
}
TAXONOMY = load("demo").corpus.taxonomy
VALIDATION = Split.of(
    [Clip(str(row), TAXONOMY.scenes[row % 10], "validation", str(row // 2), device="a") for row in range(CLIPS)],
    Features(FeatureMap((), (), (1, 1)), np.arange(CLIPS)),
    TAXONOMY,
)


def config_of(*settings: str) -> Experiment:
    return load("demo", [*SEARCH, *settings])


def kept(folder: Path, number: int, settings: Settings, losses: Mapping[int, NDArray[np.floating]]) -> Trial:
    """A finished trial with its clips' losses at each cycle end, as journals hold them; right is what is below 1.5."""
    training = Training("search", f"student-{number:02d}", number, ENDS[-1], settings, "finished")
    scores = {end: Scores(loss.astype(np.float32), loss < 1.5) for end, loss in losses.items()}
    save_scores(folder / TRIALS / training.trial / SCORES, scores)
    return Trial(training, [row_of(end, float(loss.mean())) for end, loss in losses.items()])


def test_where_bytes_are_an_objective_the_smallest_of_those_as_good_as_the_best_is_chosen(tmp_path):
    """Though the default is nearer to itself. The width of the tail changes bytes alone."""
    config = config_of("search.objectives=[log_loss, bytes]", "search.space={model.tail: {low: 40, high: 56}}")
    noise = np.random.default_rng(0).normal(0, 0.3, CLIPS)
    trials = []
    for number, tail in enumerate((56, 40, 48), 1):
        losses = dict.fromkeys(ENDS, 1.5 + np.roll(noise, number))
        trials.append(kept(tmp_path, number, {"model.tail": tail, "recipe.soft_weight": 0.5}, losses))
    chosen, evidence = choose(config, trials, clips_of(VALIDATION), tmp_path)
    assert chosen.name == "student-02" and [one.distance for one in evidence] == [0.0, 1.0, 0.5]


def test_what_counts_is_the_last_cycle_end(tmp_path):
    losses = {end: np.full(CLIPS, loss) for end, loss in zip(ENDS, (3.0, 2.0, 1.0), strict=True)}
    _, (only,) = choose(config_of(), [kept(tmp_path, 1, OWN, losses)], clips_of(VALIDATION), tmp_path)
    assert (only.log_loss, only.accuracy) == (1.0, 1.0)


def test_metrics_are_means_over_devices_where_the_settings_say_so(tmp_path):
    """Three of four clips are of a. Trial 1 is ahead there, trial 2 by more on b, which counts as much."""
    clips = replace(clips_of(VALIDATION), devices=["b" if row % 4 == 0 else "a" for row in range(CLIPS)])
    is_b = np.array(clips.devices) == "b"
    trials = []
    for number, soft, on_a, on_b in ((1, 0.5, 1.0, 3.0), (2, 0.8, 1.5, 2.0)):
        losses = dict.fromkeys(ENDS, np.where(is_b, on_b, on_a))
        trials.append(kept(tmp_path, number, {**OWN, "recipe.soft_weight": soft}, losses))
    for mean_over, expected in (("devices", [2.0, 1.75]), ("clips", [1.5, 1.625])):
        config = config_of(f"validation.mean_over={mean_over}")
        _, evidence = choose(config, trials, clips, tmp_path)
        assert [one.log_loss for one in evidence] == pytest.approx(expected)
    shares = wins_of(config_of("validation.mean_over=devices"), trials, clips, tmp_path)
    assert shares["student-02"] > 0.95


def test_where_no_trial_has_a_finite_result_and_none_says_why_that_is_said(tmp_path):
    trial = Trial(Training("search", "one", 1, ENDS[-1], OWN, "finished"), [])
    with pytest.raises(UserError, match="^every trial failed; the first reason: no finite result$"):
        choose(config_of(), [trial], clips_of(VALIDATION), tmp_path)
