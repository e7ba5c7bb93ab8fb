"""Which recipe the search chooses, on scores that are made up."""

import io
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from features.corpus import Clip
from features.maps import FeatureMap
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.monitor.status import StageStatus
from orchestrator.monitor.view import Bar, View
from orchestrator.stages.choice import Evidence, choose, draws_seed, wins_of
from orchestrator.stages.context import Context
from orchestrator.stages.rounds import again_name
from orchestrator.stages.search import Search, publish
from orchestrator.stages.sizes import sizes_of
from orchestrator.stages.study import STUDY
from orchestrator.storage.files import read_json, write_json, write_lines
from orchestrator.storage.store import Store
from orchestrator.training.data import Features, Split
from orchestrator.training.paired import clips_of
from orchestrator.training.record import LATEST, ROWS, SCORES, TRIAL, TRIALS, Settings, State, Training, Trial
from orchestrator.training.scores import Scores, save_scores
from tests.orchestrator.training.rows import row_of

CLIPS = 60  # 30 locations of two clips
LAST = 6
ALONE = load("demo", ["search.cycle_ends=[2, 6]", "search.finalists=0", "search.trials=4"])
AGAIN = load("demo", ["search.cycle_ends=[2, 6]", "search.finalists={best: 1, seeds: 2}", "search.trials=4"])
OWN: Settings = {
    "recipe.scene_weight": 0.9,
    "recipe.soft_weight": 0.5,
    "recipe.temperature": 2.0,
    "recipe.mixup_alpha": 0.4,
}
TAXONOMY = ALONE.corpus.taxonomy
VALIDATION = Split.of(
    [Clip(str(row), TAXONOMY.scenes[row % 10], "validation", str(row // 2), device="a") for row in range(CLIPS)],
    Features(FeatureMap((), (), (1, 1)), np.arange(CLIPS)),
    TAXONOMY,
)
NOISE = np.random.default_rng(0).normal(0, 0.3, CLIPS)


class Work:
    """Trials with their scores at the last cycle end, as journals hold them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trials, self.own = folder, list[Trial](), OWN

    def add(
        self, soft: float, loss: float, noise: float = 0.0, seed: int = 0, state: State = "finished", cut: str = ""
    ) -> None:
        """A trial with the default's settings but `soft_weight`; its loss varies over clips by `noise`."""
        number = len(self.trials) + 1
        settings = {**self.own, "recipe.soft_weight": soft}
        first = next((trial.name for trial in self.trials if trial.training.settings == settings), None)
        name = again_name(first, seed, cut) if first else f"student-{number:02d}"
        training = Training("search", name, number, LAST, settings, state, seed=seed, cut=cut)
        losses = (loss + noise * NOISE[np.roll(np.arange(CLIPS), number)]).astype(np.float32)
        ends = (2, LAST) if state == "finished" else (2,)
        save_scores(self.folder / TRIALS / name / SCORES, {end: Scores(losses, losses < 1.5) for end in ends})
        self.trials.append(Trial(training, [row_of(end, loss, cycle_end=True) for end in ends]))

    def chosen(self, config=ALONE) -> tuple[str, list[Evidence]]:
        trial, evidence = choose(config, self.trials, clips_of(VALIDATION), self.folder)
        return trial.name, evidence

    def published(self, tmp_path: Path, config=ALONE) -> Search:
        """What the search keeps of them; the last snapshot of each holds its name."""
        for trial in self.trials:
            folder = self.folder / TRIALS / trial.name
            write_json(folder / TRIAL, asdict(trial.training))
            write_lines(folder / ROWS, trial.rows)
            (folder / LATEST).write_text(trial.name)
        store, view = Store(tmp_path / "storage"), View(Console(file=io.StringIO()))
        bar = Bar(view, "search", None, StageStatus("search"))
        work: Any = SimpleNamespace(folder=self.folder, seconds=1.0)
        data: Any = SimpleNamespace(validation=VALIDATION)
        publish(Context(config, store, view, "run"), [data], "key", work, bar)
        return Search.read(store.root / "artifacts" / "search" / "key")


@pytest.fixture
def work(tmp_path) -> Work:
    return Work(tmp_path)


def test_what_is_clearly_better_replaces_the_default(work):
    for soft, loss in ((0.5, 1.5), (0.0, 1.7), (0.8, 1.0), (0.9, 1.4)):
        work.add(soft, loss, noise=0.2)
    name, evidence = work.chosen()
    assert name == "student-03"
    better = evidence[2].to_default
    assert better and better.value == pytest.approx(-0.5, abs=0.05) and better.high < 0
    assert evidence[0].to_default and evidence[0].to_default.value == 0
    assert (evidence[2].wins, evidence[2].log_loss) == (1.0, pytest.approx(1.0, abs=0.05))


def test_what_is_better_by_less_than_its_error_does_not(work):
    for soft, loss in ((0.5, 1.5), (0.0, 1.7), (0.8, 1.48), (0.9, 1.6)):
        work.add(soft, loss, noise=1.0)
    assert work.chosen()[0] == "student-01"


def test_of_several_as_good_as_the_best_the_nearest_to_the_default_is_chosen(work):
    for soft, loss in ((0.5, 2.5), (0.0, 2.7), (0.95, 1.49), (0.6, 1.5)):
        work.add(soft, loss, noise=1.0)
    name, evidence = work.chosen()
    assert name == "student-04"
    assert [one.distance for one in evidence] == pytest.approx([0, 0.5 / 4, 0.45 / 4, 0.1 / 4])


def test_the_plain_recipe_can_win(work):
    for soft, loss in ((0.5, 1.5), (0.0, 1.0), (0.8, 1.6)):
        work.add(soft, loss)
    assert work.chosen()[0] == "student-02"


def test_stopped_and_failed_trials_are_no_candidates(work):
    work.add(0.5, 1.5)
    work.add(0.8, 0.1, state="stopped")
    work.add(0.9, 0.1, state="failed")
    name, evidence = work.chosen()
    assert (name, len(evidence)) == ("student-01", 1)


def test_in_the_last_round_the_other_seeds_decide_and_the_first_ones_luck_does_not(work):
    work.add(0.5, 1.5)
    work.add(0.8, 0.5)  # lucky
    for soft, loss in ((0.5, 1.2), (0.5, 1.3), (0.8, 1.8), (0.8, 2.0)):
        work.add(soft, loss, seed=1 if loss in (1.2, 1.8) else 2)
    name, evidence = work.chosen(AGAIN)
    assert name == "student-01"
    assert [one.log_loss for one in evidence] == pytest.approx([1.25, 1.9])
    assert evidence[1].to_default and evidence[1].to_default.value == pytest.approx(0.65)


def test_who_failed_with_one_of_the_seeds_is_no_candidate(work):
    work.add(0.5, 1.5)
    work.add(0.8, 0.5)
    for soft, seed, state in ((0.5, 1, "finished"), (0.5, 2, "finished"), (0.8, 1, "finished"), (0.8, 2, "failed")):
        work.add(soft, 1.0, seed=seed, state=state)
    assert [one.trial for one in work.chosen(AGAIN)[1]] == ["student-01"]


def test_trials_are_compared_on_the_clips_of_all_folds(work):
    """Trial 2 is ahead on the first fold and far behind on the second; trial 3 was not trained on that."""
    config = load("demo", ["search.cycle_ends=[2, 6]", "search.finalists=0", "search.trials=4", "validation.folds=2"])
    for soft, first, second in ((0.5, 1.5, 1.5), (0.8, 1.2, 2.4), (0.9, 0.1, None)):
        work.add(soft, first)
        if second is not None:
            work.add(soft, second, cut="fold2")
    clips = clips_of(VALIDATION, VALIDATION)
    trial, evidence = choose(config, work.trials, clips, work.folder)
    assert trial.name == "student-01" and [one.log_loss for one in evidence] == pytest.approx([1.5, 1.8])
    assert set(wins_of(config, work.trials, clips, work.folder)) == {one.trial for one in evidence}


def test_without_the_default_there_is_no_difference_to_it(work):
    work.add(0.5, 1.5, state="failed")
    work.add(0.0, 1.5)
    name, (only,) = work.chosen()
    assert name == "student-02" and only.to_default is None


def test_by_accuracy_the_more_accurate_one_is_chosen(work):
    config = load("demo", ["search.cycle_ends=[2, 6]", "search.finalists=0", "select_by=accuracy", "search.trials=3"])
    work.add(0.5, 1.6, noise=0.2)  # what has a loss below 1.5 is right
    work.add(0.8, 1.4, noise=0.2)
    name, evidence = work.chosen(config)
    assert name == "student-02" and evidence[1].accuracy > evidence[0].accuracy


def test_wins_of_the_first_round_are_shares(work):
    for soft, loss in ((0.5, 1.5), (0.0, 1.5), (0.8, 9.0)):
        work.add(soft, loss, noise=1.0)
    shares = wins_of(ALONE, work.trials, clips_of(VALIDATION), work.folder)
    assert sum(shares.values()) == pytest.approx(1) and shares["student-03"] == 0
    assert 0.05 < shares["student-01"] < 0.95


@pytest.mark.parametrize(
    ("losses", "kept"),
    [((1.0, 1.5, 1.6, 1.7), ["student-01", "student-02"]), ((1.5, 1.6, 1.0, 1.7), ["student-03"])],
)
def test_the_snapshots_are_kept_from_which_a_final_training_can_go_on(work, tmp_path, monkeypatch, losses, kept):
    """Of the chosen recipe, and of the plain one where that differs from it by the teachers alone."""
    pulled = list[Path]()
    monkeypatch.setattr(Store, "pull", lambda _, path, *rest: pulled.append(path))
    for soft, loss in zip((0.5, 0.0, 0.8, 0.9), losses, strict=True):
        work.add(soft, loss)
    found = work.published(tmp_path)
    assert found.best == kept[0] and [(folder / LATEST).read_text() for folder in found.kept()] == kept
    assert [file.relative_to(work.folder / TRIALS).as_posix() for file in pulled] == [
        f"{name}/{LATEST}" for name in kept
    ]


def test_what_is_written_of_a_search_is_read_back(work, tmp_path):
    for soft, loss in ((0.5, 1.5), (0.0, 1.5), (0.8, 1.4), (0.9, 9.0)):
        work.add(soft, loss, noise=1.0)
    found = work.published(tmp_path)
    wins = wins_of(ALONE, work.trials, clips_of(VALIDATION), work.folder)
    assert found.evidence() == work.chosen()[1] and found.sizes() == []
    assert {row.trial: row.wins for row in found.trials()} == wins
    assert read_json(found.folder / "best.json")["trial"] == found.best
    assert read_json(found.folder / "stage.json")["trials"] == 4
    storage = JournalStorage(JournalFileBackend(str(found.folder / STUDY)))
    assert optuna.load_study(study_name="demo-key", storage=storage).best_value == 1.4


def test_sizes_are_kept_where_there_are_several_objectives(work, tmp_path):
    space = "search.space={model.stem: {low: 8, high: 32}, recipe.soft_weight: {low: 0, high: 1}}"
    several = ["search.objectives=[log_loss, bytes]", "search.cycle_ends=[2, 6]", "search.finalists=0"]
    config = load("demo", [space, *several, "search.trials=4", "search.stopping=none"])
    work.own = {"model.stem": 32, "recipe.soft_weight": 0.5}
    for soft, loss in ((0.5, 1.5), (0.0, 1.7)):
        work.add(soft, loss)
    found = work.published(tmp_path, config).sizes()
    assert found == sizes_of(config, work.trials) and [one.log_loss for one in found] == [1.5, 1.7]


def test_where_every_trial_failed_the_first_reason_is_told(tmp_path):
    failed = Trial(Training("search", "one", 1, 6, OWN, "failed", "the loss is nan in epoch 3"), [])
    with pytest.raises(UserError, match="every trial failed; the first reason: the loss is nan in epoch 3"):
        choose(ALONE, [failed], clips_of(VALIDATION), tmp_path)


def test_the_bootstrap_draws_from_a_seed_of_its_own():
    """Another one would move the intervals of every run."""
    assert ALONE.seed == 0 and draws_seed(ALONE) == 7473097931981360803
