"""Verdicts are by number: worked by hand, and the same in whatever order trials report."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from benchmarks.replay import Replay
from orchestrator.config.loading import load
from orchestrator.config.search import HalvingSettings, MedianSettings, NoneSettings
from orchestrator.stages.rounds import Rounds
from orchestrator.stages.search import recalled, verdicts_of
from orchestrator.stages.stopping import Halving, Median, Never, StoppingRule, quantile
from orchestrator.stages.verdicts import Verdicts
from orchestrator.training.record import FAILED, FINISHED, STOPPED, Training, Trial
from orchestrator.training.rows import Metric, Row
from tests.orchestrator.training.rows import row_of

ENDS = (2, 6, 14)
HALF = Halving(HalvingSettings(reduction_factor=2))


def training(number: int) -> Training:
    return Training("search", f"student-{number:02d}", number, 14)


def row(epoch: int, log_loss: float, accuracy: float = 0.5) -> Row:
    return row_of(epoch, log_loss, accuracy, cycle_end=epoch in ENDS)


def judged(rule: StoppingRule, *trials: list[Row], metric: Metric = "log_loss", exempt: int = 0) -> Verdicts:
    """The verdicts after trials 1, 2, ... have reported these rows, one after another."""
    verdicts = Verdicts(rule, ENDS, metric, lambda number: number <= exempt)
    for number, rows in enumerate(trials, 1):
        verdicts.enter(training(number))
        for each in rows:
            verdicts.report(number, each)
    return verdicts


class TestRules:
    def test_rungs_are_cycle_ends_from_the_grace_cycle_without_the_last(self):
        assert HALF.rungs(ENDS) == (2, 6)
        assert Halving(HalvingSettings(grace_cycles=2)).rungs(ENDS) == (6,)
        assert Median(MedianSettings()).rungs(ENDS) == (2, 6)
        assert Median(MedianSettings(grace_cycles=2)).rungs(ENDS) == (6,)
        assert Median(MedianSettings(grace_cycles=3)).rungs(ENDS) == ()
        assert Never(NoneSettings()).rungs(ENDS) == () and not Never(NoneSettings()).stops(math.inf, [0.0])

    @pytest.mark.parametrize(
        ("factor", "references", "value", "stops"),
        [
            (2, [1.0], 9.0, False),  # fewer than eta others
            (2, [1.0, 3.0], 2.0, False),  # their middle, by hand
            (2, [1.0, 3.0], 2.1, True),
            (2, [1.0, 2.0, 9.0], 2.0, False),
            (4, [1.0, 2.0, 3.0, 4.0], 1.75, False),  # the quarter quantile, by hand
            (4, [1.0, 2.0, 3.0, 4.0], 1.8, True),
            (2, [1.0, math.inf], 9.0, False),  # half of the others failed
            (2, [1.0, 2.0], math.inf, True),
        ],
    )
    def test_halving_keeps_what_is_no_worse_than_a_quantile_of_the_others(self, factor, references, value, stops):
        assert Halving(HalvingSettings(reduction_factor=factor)).stops(value, references) is stops

    def test_the_median_rule_wants_enough_others(self):
        rule = Median(MedianSettings(least=3))
        assert not rule.stops(9.0, [1.0, 2.0])
        assert rule.stops(2.1, [1.0, 2.0, 3.0]) and not rule.stops(2.0, [1.0, 2.0, 3.0])

    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0, 1))
    def test_quantiles_are_numpys(self, values, share):
        assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-6)


class TestOrder:
    def test_a_trial_is_compared_with_those_before_it_alone(self):
        """By hand: 3 is worse than the middle of 1 and 2; 4, worse still, is compared with 1, 2 and 3; 1 with none."""
        verdicts = judged(HALF, [row(2, 2.0)], [row(2, 1.0)], [row(2, 1.6)], [row(2, 1.5)])
        assert verdicts.stopped == {3: 2}

    def test_a_verdict_waits_for_the_trials_before_it_and_cuts_what_was_trained_meanwhile(self):
        verdicts = judged(HALF, [row(2, 1.0)], [], [row(2, 2.0), row(6, 0.5)])
        assert verdicts.stopped == {} and not verdicts.is_settled(3)
        verdicts.report(2, row(2, 1.2))
        assert verdicts.stopped == {3: 2} and verdicts.is_settled(3)
        assert [kept["epoch"] for kept in verdicts.counted(verdicts.trials[3]).rows] == [2]
        assert verdicts.counted(verdicts.trials[3]).training.state == STOPPED

    def test_those_that_stopped_before_a_rung_do_not_count_there(self):
        """By hand: at epoch 6 trial 4 meets 1 and 2, whose middle is 0.85; 3 stopped at 2, though it was trained on."""
        trials = [
            [row(2, 1.0), row(6, 0.9)],
            [row(2, 1.0), row(6, 0.8)],
            [row(2, 1.5), row(6, 0.1)],
            [row(2, 0.9), row(6, 0.84)],
        ]
        assert judged(HALF, *trials).stopped == {3: 2}

    def test_a_failed_trial_counts_as_the_worst_and_a_lost_process_as_not_there_yet(self):
        verdicts = judged(HALF, [row(2, 1.0)], [], [row(2, 5.0)])
        assert verdicts.stopped == {}
        verdicts.end(2, FAILED)
        assert verdicts.stopped == {}  # the middle of 1.0 and infinity
        assert verdicts.value(2, 2) == math.inf
        verdicts.enter(training(4))
        verdicts.report(4, row(2, 6.0))
        assert verdicts.stopped == {4: 2}  # the middle of 1.0, infinity and 5.0 is 5.0

    def test_a_row_that_cannot_be_judged_is_the_worst(self):
        verdicts = judged(HALF, [row(2, 1.0)], [row(2, 1.0)], [row(2, math.nan)])
        assert verdicts.stopped == {3: 2}

    @pytest.mark.parametrize(("accuracy", "stopped"), [(0.9, {}), (0.1, {3: 2})])
    def test_by_accuracy_the_worse_trial_is_stopped(self, accuracy, stopped):
        trials = [row(2, 1.0, 0.6)], [row(2, 1.0, 0.7)], [row(2, 1.0, accuracy)]
        assert judged(HALF, *map(list, trials), metric="accuracy").stopped == stopped

    def test_the_fixed_trials_are_never_stopped(self):
        verdicts = judged(HALF, [row(2, 1.0)], [row(2, 1.0)], [row(2, 9.0)], exempt=3)
        assert verdicts.stopped == {} and verdicts.passed[3] == 1

    def test_the_fixed_trials_and_those_of_the_last_round_are_exempt(self):
        verdicts = verdicts_of(load("demo", ["search.trials=4"]))
        assert [number for number in range(1, 8) if not verdicts.is_exempt(number)] == [3, 4]

    def test_what_a_resumed_trial_reports_again_is_not_counted_twice(self):
        verdicts = judged(HALF, [row(2, 1.0), row(2, 1.0), row(3, 0.1)])
        assert [kept["epoch"] for kept in verdicts.trials[1].rows] == [2]

    def test_whether_a_trial_failed_after_its_rung_makes_no_difference(self):
        early = judged(HALF, [row(2, 1.0)], [], [row(2, 2.0)])
        early.report(2, row(2, 1.0))
        late = judged(HALF, [row(2, 1.0)], [], [row(2, 2.0)])
        late.end(3, FAILED)
        late.report(2, row(2, 1.0))
        assert early.counted(early.trials[3]) == late.counted(late.trials[3])
        assert early.until(early.trials[3], 2) == late.until(late.trials[3], 2)


def by_definition(rule: StoppingRule, reached: list[dict[int, float]], exempt: int) -> dict[int, int]:
    """Where each trial stops, when all of every trial is known: by number, against those before it that are there."""
    stopped: dict[int, int] = {}
    for number, values in enumerate(reached, 1):
        for rung in rule.rungs(ENDS):
            others = [reached[other - 1][rung] for other in range(1, number) if stopped.get(other, rung) >= rung]
            if number > exempt and rule.stops(values[rung], others):
                stopped[number] = rung
                break
    return stopped


@settings(max_examples=100)
@given(st.integers(1, 25), st.integers(0, 2), st.integers(0, 10**6), st.integers(2, 4))
def test_verdicts_in_whatever_order_reports_come_are_those_of_the_definition(count, exempt, seed, factor):
    draw = random.Random(seed)
    rule = Halving(HalvingSettings(reduction_factor=factor))
    reached = [
        {end: math.inf if draw.random() < 0.05 else round(draw.random(), 1) + 1 / end for end in ENDS}
        for _ in range(count)
    ]
    verdicts = Verdicts(rule, ENDS, "log_loss", lambda number: number <= exempt)
    left = {number: list(ENDS) for number in range(1, count + 1)}
    begun = 0
    while left:
        if begun < count and draw.random() < 0.3:
            begun += 1
            verdicts.enter(training(begun))
        open_ones = [number for number in left if number <= begun]
        if not open_ones:
            continue
        number = draw.choice(open_ones)
        end = left[number].pop(0)
        verdicts.report(number, row(end, reached[number - 1][end]))
        if not left[number] or number in verdicts.stopped:
            verdicts.end(number, STOPPED if number in verdicts.stopped else FINISHED)
            del left[number]
    assert verdicts.stopped == by_definition(rule, reached, exempt)
    assert all(verdicts.is_settled(number) for number in range(1, count + 1))


SEARCH = [
    "search.trials=18",
    "search.cycle_ends=[2, 6, 14]",
    "search.lag=2",
    "search.finalists={best: 2, seeds: 2}",
    "student.recipe.cycle_ends=[2, 6, 14, 30]",
]


def results(draw: random.Random) -> Any:
    """A made-up quality of each recipe, noise by its name and epoch; one in twelve fails on the way."""
    salt = draw.random()

    def of(training: Training) -> dict[int, float | None]:
        own = random.Random(f"{salt} {training.trial}")
        weight = training.settings["recipe.soft_weight"]
        assert isinstance(weight, float)
        quality = abs(weight - 0.6) + 0.2 * own.random()
        fails = own.random() < 1 / 12
        return {end: None if fails and end > 2 else quality + 3 / end for end in ENDS}

    return of


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["tpe", "sobol"]), st.sampled_from(["halving", "median", "none"]))
def test_workers_speeds_and_interruptions_change_nothing(seed, sampler, stopping):
    """18 trials with stops and the last round: by one worker, and by several of random speeds that die on the way."""
    config = load("demo", [*SEARCH, f"seed={seed % 97}", f"search.sampler={sampler}", f"search.stopping={stopping}"])
    of = results(random.Random(seed))
    alone = Replay(config, of, lambda training, end: 1.0, workers=1)
    assert alone.run()
    draw = random.Random(seed + 1)
    crowd = Replay(config, of, lambda training, end: draw.expovariate(1.0) + 0.01, workers=draw.randint(2, 6))
    while not crowd.run(dies_after=draw.uniform(1, 12)):
        crowd.workers = draw.randint(1, 6)
    assert crowd.counted() == alone.counted()


def test_the_simulated_search_has_stops_proposals_and_a_last_round():
    """Else the test above would show nothing."""
    config = load("demo", SEARCH)
    search = Replay(config, results(random.Random(1)), lambda training, end: 1.0, workers=3)
    assert search.run()
    trials = search.counted()
    states = [trial.training.state for trial in trials[:18]]
    assert states.count(STOPPED) >= 3 and states.count(FINISHED) >= 4
    assert [trial.training.seed for trial in trials[18:]] == [1, 2] * (len(trials[18:]) // 2)
    assert 4 <= len(trials[18:]) <= 8
    assert any(
        frozen.state == TrialState.COMPLETE for frozen in Rounds(config, recalled(config, trials)).past(18) or ()
    )


def test_a_trial_that_ended_is_recalled_with_its_state():
    verdicts = Verdicts(Never(NoneSettings()), ENDS, "log_loss", lambda number: False)
    ended = Trial(replace(training(1), state=FINISHED), [row(1, 3.0), row(2, 2.0), row(14, 1.0)])
    verdicts.enter(ended.training, ended.rows)
    assert verdicts.is_settled(1) and verdicts.first == 2 and verdicts.is_known(1, 2)
    assert [kept["epoch"] for kept in verdicts.trials[1].rows] == [2, 14]
