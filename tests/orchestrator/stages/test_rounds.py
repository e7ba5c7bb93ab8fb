"""What each number of a search is trained with, and what Optuna is told of trials."""

import pytest
import torch
from optuna.trial import TrialState
from ray.tune.search import Searcher

from models.seeding import derive
from models.specs import MobnetSpec
from orchestrator.config.experiment import Experiment
from orchestrator.config.loading import load
from orchestrator.stages.distributions import distributions, position
from orchestrator.stages.proposals import Proposals
from orchestrator.stages.rounds import Rounds, fixed_recipes, frozen, trial_name
from orchestrator.stages.samplers import GaussianProcess, Genetic, Random, Sobol, Tpe, seed_of
from orchestrator.stages.search import difference, recalled, trial_task
from orchestrator.training.record import Settings, State, Training, Trial
from tests.orchestrator.training.rows import Row, row_of

ENDS = (2, 6, 14)
EARLY = "search.stopping.grace_cycles=1"
CONFIG = load("demo", [EARLY, "search.cycle_ends=[2, 6, 14]", "search.trials=16", "search.lag=2"])
OWN: Settings = {
    "recipe.scene_weight": 0.9,
    "recipe.soft_weight": 0.5,
    "recipe.temperature": 2.0,
    "recipe.mixup_alpha": 0.4,
}


def row(epoch: int, log_loss: float) -> Row:
    return row_of(epoch, log_loss, cycle_end=epoch in ENDS)


def trial(number: int, state: State, *rows: Row, settings: Settings = OWN, seed: int = 0) -> Trial:
    failure = "out of luck" if state == "failed" else None
    return Trial(
        Training("search", f"student-{number:02d}", number, 14, settings, state, failure, seed=seed), list(rows)
    )


def whole(number: int, log_loss: float) -> Trial:
    return trial(number, "finished", row(2, log_loss + 1), row(6, log_loss + 0.5), row(14, log_loss))


def rounds(config: Experiment, *trials: Trial) -> Rounds:
    return Rounds(config, recalled(config, trials))


class TestFirstTrials:
    def test_the_first_trial_is_the_students_own_recipe_and_the_second_has_no_teachers(self):
        first, second = (rounds(CONFIG).training(number) for number in (1, 2))
        assert first and second
        assert (first.trial, first.settings) == ("student-01-default", OWN)
        assert (second.trial, second.settings) == ("student-02-plain", {**OWN, "recipe.soft_weight": 0.0})

    def test_plain_means_without_teachers_for_both_classifiers(self):
        config = load("demo", ["student.recipe.group_soft_weight=0.7"])
        default, plain = fixed_recipes(config).values()
        assert default["recipe.group_soft_weight"] == 0.7
        assert plain["recipe.group_soft_weight"] is None and plain["recipe.soft_weight"] == 0.0
        assert trial_task(config, Training("search", "", 2, 6, plain)).recipe.soft_weights == (0.0, 0.0)

    def test_a_student_without_teachers_is_the_plain_one_itself(self):
        config = load("demo", ["student.recipe.soft_weight=0"])
        assert list(fixed_recipes(config)) == ["default"]

    def test_the_own_recipe_is_the_students_task_on_the_searchs_schedule(self):
        first = rounds(CONFIG).training(1)
        assert first
        assert trial_task(CONFIG, first) == trial_task(CONFIG, Training("search", "", 1, 14))

    def test_the_next_ones_fill_the_space_and_wait_for_nothing(self):
        """By hand: a scrambled Sobol sequence has its points 2 and 3 in different halves of each setting."""
        third, fourth = (rounds(CONFIG).training(number) for number in (3, 4))
        assert third and fourth
        for name, kind in distributions(CONFIG).items():
            places = [position(kind, training.settings[name]) for training in (third, fourth)]
            assert sorted(place >= 0.5 for place in places) == [False, True], name

    def test_another_seed_draws_others(self):
        other = rounds(load("demo", ["search.cycle_ends=[2, 6, 14]", "search.trials=12", "seed=1"])).training(3)
        usual = rounds(CONFIG).training(3)
        assert other and usual and other.settings != usual.settings


class TestProposals:
    def test_a_proposal_waits_for_what_it_may_know_and_for_nothing_else(self):
        """By hand, lag 2: number 10 knows trials 1 and 2 to their ends, and 3 to 8 at epoch 2, the first rung."""
        ready = [whole(1, 1.0), whole(2, 1.1), *(trial(number, "running", row(2, 2.0)) for number in range(3, 9))]
        others = [trial(9, "running")]
        assert rounds(CONFIG, *ready, *others).training(10)
        for late in range(1, 9):
            lacking = [each for each in ready if each.training.number != late]
            first = trial(late, "running", row(2, 2.0)) if late < 3 else trial(late, "running")
            assert rounds(CONFIG, *lacking, first, *others).training(10) is None, late

    def test_a_proposal_does_not_change_with_what_it_may_not_know(self):
        early = [whole(1, 1.0), whole(2, 1.1), *(trial(number, "running", row(2, 2.0)) for number in range(3, 10))]
        later = [*early[:5], trial(6, "running", row(2, 2.0), row(6, 0.1)), *early[6:8], whole(9, 0.1)]
        assert rounds(CONFIG, *early).training(10) == rounds(CONFIG, *later).training(10)

    def test_it_depends_on_what_it_may_know(self):
        """By hand, lag 2: number 8 knows 1 to 6 at the first rung, and none to its end."""

        def proposed(best: int) -> Settings:
            known = [
                trial(
                    number,
                    "running",
                    row(2, 1.0 if number == best else 2.0),
                    settings={**OWN, "recipe.mixup_alpha": 0.1 + 0.05 * number},
                )
                for number in range(1, 8)
            ]
            found = rounds(CONFIG, *known).training(8)
            assert found
            return found.settings

        assert proposed(3) != proposed(6) and proposed(3) == proposed(3)
        assert proposed(7) == proposed(8)  # of which it may not know

    def test_a_past_in_optunas_words(self):
        known = rounds(
            CONFIG,
            whole(1, 1.0),
            whole(2, 1.1),
            trial(3, "failed"),
            *(trial(number, "running", row(2, 2.0), row(6, 1.0)) for number in range(4, 10)),
        ).past(10)
        assert known
        states = [past.state for past in known]
        pruned, running = TrialState.PRUNED, TrialState.RUNNING
        assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [pruned] * 5 + [running]
        assert known[0].value == 1.0 and known[3].intermediate_values == {2: 2.0}
        assert known[0].params == OWN and known[0].user_attrs == {"name": "student-01"}

    def test_what_lies_outside_the_space_is_not_told(self):
        config = load("demo", [EARLY, "search.space.recipe.soft_weight.low=0.1", "search.lag=1", "search.trials=5"])
        plain = {**OWN, "recipe.soft_weight": 0.0}
        known = rounds(config, whole(1, 1.0), trial(2, "finished", row(2, 1.0), settings=plain)).past(3)
        assert known is not None and [past.user_attrs["name"] for past in known] == ["student-01"]

    @pytest.mark.parametrize("sampler", ["tpe", "gp", "sobol", "random", "nsga2"])
    def test_every_sampler_proposes_within_the_space_and_the_same_again(self, sampler):
        space = "{recipe.batch_size: {choices: [8, 16]}, recipe.temperature: {low: 0.5, high: 4, log: true}, "
        space += "model.stem: {low: 16, high: 32}, model.rows: {choices: [[16, 20], [20, 24]]}}"
        config = load(
            "demo",
            [f"search.sampler={sampler}", f"search.space={space}", "search.lag=1", "search.trials=8"],
        )
        one = config.search_recipe({})
        trials: list[Trial] = []
        for number in range(1, 9):
            first, again = (rounds(config, *trials).training(number) for _ in range(2))
            assert first and first == again
            student = config.search_recipe(first.settings)
            assert isinstance(student.model, MobnetSpec) and 16 <= student.model.stem <= 32
            assert number < 3 or student.model.rows in ((16, 20), (20, 24))
            assert student.recipe.batch_size in (8, 16, one.recipe.batch_size)
            assert 0.5 <= student.recipe.temperature <= 4
            trials.append(Trial(Training(**{**vars(first), "state": "finished"}), [row(2, 2.0), row(6, 1 / number)]))

    def test_an_interrupted_trial_keeps_its_settings_and_ended_ones_are_passed_over(self):
        recorded = [whole(1, 1.0), trial(2, "failed"), trial(3, "running", row(2, 2.0))]
        proposals = Proposals(rounds(CONFIG, *recorded), recorded)
        again = proposals.suggest("x")
        assert isinstance(again, dict) and Training(**again["trial"]) == recorded[2].training
        new = proposals.suggest("y")
        assert isinstance(new, dict) and new["trial"]["number"] == 4

    def test_tune_restores_nothing(self):
        with pytest.raises(AssertionError, match="^a search resumes from its trials' journals$"):
            Proposals(rounds(CONFIG), []).restore("x")


class TestLastRound:
    CONFIG = load("demo", ["search.cycle_ends=[2, 6, 14]", "search.trials=5", "search.finalists={best: 2, seeds: 2}"])

    def test_the_default_the_plain_one_and_the_best_are_trained_again(self):
        trials = [whole(1, 1.4), whole(2, 1.3), whole(3, 1.1), whole(4, 1.2), whole(5, 1.0)]
        found = rounds(self.CONFIG, *trials)
        assert found.total == 13
        finals = [found.training(number) for number in range(6, 14)]
        names = [f"student-{number:02d}-seed{seed}" for number in (1, 2, 3, 5) for seed in (1, 2)]
        assert [final and final.trial for final in finals] == names
        assert [final and final.seed for final in finals] == [1, 2] * 4
        assert found.training(14) is None

    def test_a_default_that_is_among_the_best_is_no_second_candidate(self):
        trials = [whole(1, 1.0), whole(2, 1.3), whole(3, 1.1), whole(4, 1.2), trial(5, "failed")]
        assert rounds(self.CONFIG, *trials).total == 5 + 3 * 2

    def test_nobody_is_a_finalist_before_the_last_trial_has_ended(self):
        trials = [whole(1, 1.4), whole(2, 1.3), whole(3, 1.1), whole(4, 1.2), trial(5, "running", row(2, 2.0))]
        found = rounds(self.CONFIG, *trials)
        assert found.training(6) is None and found.total == 5 + (2 + 2) * 2
        assert Proposals(found, trials[:4]).suggest("x") == {"trial": vars(found.training(5))}

    def test_without_a_last_round_the_search_ends_with_its_trials(self):
        config = load("demo", ["search.trials=2", "search.finalists=0"])
        recorded = [whole(1, 1.0), whole(2, 1.0)]
        assert Proposals(rounds(config, *recorded), recorded).suggest("x") == Searcher.FINISHED
        assert rounds(config, *recorded).total == rounds(config, recorded[0]).total == 2

    def test_trials_that_went_to_their_end_are_trained_on_every_fold_and_so_are_the_finalists(self):
        """Trial 3 is the best on the first fold and not over both."""
        settings = [EARLY, "search.cycle_ends=[2, 6, 14]", "search.trials=4", "search.finalists={best: 1, seeds: 1}"]
        config = load("demo", [*settings, "validation.folds=2"])
        trials = [whole(1, 1.4), whole(2, 1.3), whole(3, 1.1), trial(4, "stopped", row(2, 9.0))]
        found = rounds(config, *trials)
        again = [found.training(number) for number in (5, 6, 7)]
        names = [f"student-0{number}-fold2" for number in (1, 2, 3)]
        assert [one and (one.trial, one.cut, one.seed) for one in again] == [(name, "fold2", 0) for name in names]
        assert found.training(8) is None and found.total == 7 + (1 + 2) * 2
        folded = [
            Trial(Training(**{**vars(one), "state": "finished"}), whole(1, loss).rows)
            for one, loss in zip(again, (1.2, 1.0, 1.9), strict=True)
            if one
        ]
        found = rounds(config, *trials, *folded)
        finals = [found.training(number) for number in range(8, found.total + 1)]
        assert [one and (one.trial, one.number, one.cut, one.seed) for one in finals] == [
            ("student-01-seed1", 8, "fold1", 1),
            ("student-01-fold2-seed1", 9, "fold2", 1),
            ("student-02-seed1", 10, "fold1", 1),
            ("student-02-fold2-seed1", 11, "fold2", 1),
        ]
        assert all(one and one.settings == trials[0].training.settings for one in finals)

    def test_seeds_change_the_weights_and_nothing_else(self):
        first, other = (trial_task(CONFIG, Training("search", "", 1, 14, OWN, seed=seed)) for seed in (0, 1))
        assert first.seed != other.seed and first.recipe == other.recipe


def test_every_proposal_has_a_seed_of_its_own_that_numpy_takes():
    seeds = [seed_of(seed, name, number) for seed in (0, 1) for name in ("tpe", "gp") for number in range(50)]
    assert len(set(seeds)) == len(seeds) and 2**31 < max(seeds) < 2**32
    assert seeds[1] == derive(0, "search", "tpe", 1) % 2**32


def test_a_proposal_is_computed_by_one_thread_however_many_cores_there_are():
    torch.set_num_threads(2)
    rounds(CONFIG, *(whole(number, 1.0) for number in range(1, 16))).training(16)
    assert torch.get_num_threads() == 1


def test_samplers_that_use_what_is_known_wait_for_it_and_the_others_do_not():
    assert Tpe.looks_back and GaussianProcess.looks_back and Genetic.looks_back
    assert not Sobol.looks_back and not Random.looks_back


def test_by_accuracy_optuna_is_told_of_its_negative():
    by_accuracy = load("demo", ["select_by=accuracy"])
    assert frozen(by_accuracy, distributions(by_accuracy), whole(1, 1.0)).value == -0.5


def test_a_trial_is_named_by_its_number():
    assert [trial_name(number) for number in (3, 12, 100)] == ["student-03", "student-12", "student-100"]
    assert trial_name(1, "default") == "student-01-default"


def test_what_is_chosen_is_said_beside_the_students_own_recipe():
    own: Settings = {"recipe.soft_weight": 0.5, "recipe.temperature": 2.0, "model.rows": [32, 40]}
    assert difference(own, own) == ""
    assert difference({**own, "recipe.soft_weight": 0.00678, "model.rows": [16, 20]}, own) == (
        " with recipe.soft_weight 0.00678, model.rows [16, 20]"
    )
