"""What counts of trials at a rung, by hand."""

import math
from dataclasses import replace

import pytest

from orchestrator.config.search import HalvingSettings
from orchestrator.stages.stopping import Halving
from orchestrator.stages.verdicts import Verdicts
from orchestrator.training.record import FAILED, STOPPED, Training
from orchestrator.training.rows import Row
from tests.orchestrator.training.rows import row_of

ENDS = (2, 6, 14)


def training(number: int) -> Training:
    return Training("search", f"student-{number:02d}", number, 14)


def verdicts_of(*trials: list[Row], exempt: int = 0, grace: int = 1) -> Verdicts:
    """Of a search that halves; trials 1, 2, ... have these rows."""
    rule = Halving(HalvingSettings(reduction_factor=2, grace_cycles=grace))
    verdicts = Verdicts(rule, ENDS, "log_loss", lambda number: number <= exempt)
    for number, rows in enumerate(trials, 1):
        verdicts.enter(training(number), rows)
    return verdicts


@pytest.mark.parametrize(("grace", "first"), [(1, 2), (2, 6), (3, 2)])
def test_what_a_proposal_knows_is_the_first_rung_or_without_one_the_first_cycle_end(grace, first):
    assert verdicts_of(grace=grace).first == first


def test_who_is_never_stopped_waits_for_nobody():
    verdicts = verdicts_of([], [row_of(2, 9.0)], [row_of(2, 9.0)], exempt=2)
    assert [verdicts.passed[number] for number in (1, 2, 3)] == [0, 1, 0]


def test_who_cannot_be_judged_at_the_rung_where_it_stops_has_failed():
    verdicts = verdicts_of([row_of(2, 1.0)], [row_of(2, 1.0)], [row_of(2, math.nan)])
    assert verdicts.stopped == {3: 2}
    assert verdicts.counted(verdicts.trials[3]).training == replace(training(3), state=FAILED)


def test_how_a_trial_failed_beyond_the_rung_where_it_stops_does_not_count():
    verdicts = verdicts_of([row_of(2, 1.0)], [row_of(2, 1.0)])
    failed = replace(training(3), state=FAILED, failure="the loss is nan in epoch 5")
    verdicts.enter(failed, [row_of(2, 2.0)])
    assert verdicts.stopped == {3: 2}
    assert verdicts.counted(verdicts.trials[3]).training == replace(training(3), state=STOPPED)
