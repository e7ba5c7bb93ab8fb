"""The terminal names the trial that the search would choose, whatever order results come in."""

import io
import pickle
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from rich.console import Console

from orchestrator.config.loading import load
from orchestrator.config.search import HalvingSettings
from orchestrator.monitor.status import StageStatus
from orchestrator.monitor.view import Bar, View
from orchestrator.stages import recorder as recorder_module
from orchestrator.stages.recorder import PROCESSES, WAITING, Recorder
from orchestrator.stages.search import no_snapshots, trial_task
from orchestrator.stages.stopping import Halving
from orchestrator.stages.trainable import WORST, Plan
from orchestrator.stages.tuning import Scheduler
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage.store import Store
from orchestrator.training.record import TRIALS, State, Training, Trial
from orchestrator.training.rows import Metric, Row
from tests.orchestrator.training.rows import row_of


class Running(SimpleNamespace):
    """All that the recorder knows of a trial of Tune's."""

    def __str__(self) -> str:
        return self.config["trial"]["trial"]


def running(number: int, seed: int = 0) -> Any:
    training = Training("search", f"student-{number:02d}", number, 14, seed=seed)
    return Running(config={"trial": vars(training)}, last_result={}, error_file=None, pickled_error_file=None)


def recorded(number: int, *rows: Row, state: State = "stopped") -> Trial:
    return Trial(Training("search", f"student-{number:02d}", number, 14, state=state), rows)


@pytest.fixture
def recorder(tmp_path):
    def make(metric: Metric = "log_loss", earlier: tuple[Trial, ...] = ()):
        config = load("demo")
        plan = Plan("run", Store(tmp_path), tmp_path, partial(trial_task, config), no_snapshots, "cpu")
        bar = Bar(View(Console(file=io.StringIO())), "search", None, StageStatus("search"))
        verdicts = Verdicts(Halving(HalvingSettings(reduction_factor=2)), (2, 6, 14), metric, lambda number: number > 4)
        for trial in earlier:
            verdicts.enter(trial.training, trial.rows)
        return Recorder(plan, bar, verdicts, lambda: 4, 14)

    return make


def show(recorder: Recorder, number: int, *rows: Row, seed: int = 0) -> str:
    """What the terminal says after these results."""
    scheduler, trial = Scheduler(recorder.verdicts), running(number, seed)
    scheduler.on_trial_add(None, trial)
    for row in rows:
        scheduler.on_trial_result(None, trial, row)
        recorder.done[str(trial)] = row["epoch"]
        recorder.show()
    return recorder.bar.status.detail


@pytest.mark.parametrize(("metric", "shown"), [("log_loss", "0.600 / 0.800"), ("accuracy", "0.700 / 0.900")])
def test_the_metric_that_selects_names_the_best(recorder, metric: Metric, shown):
    found = recorder(metric)
    show(found, 1, row_of(14, 0.8, 0.6))
    assert f"best {shown}" in show(found, 2, row_of(14, 0.9, 0.7))


def test_trials_that_cannot_run_are_shown_as_waiting_once_it_lasts(recorder):
    found = recorder(earlier=(recorded(1, row_of(14, 1.0), state="finished"),))
    step = partial(found.on_step_begin, 1, [])
    step()
    assert found.bar.status.detail == ""
    found.running_at -= WAITING
    step()
    assert found.bar.status.detail == "1 of 4 done, waiting for the cluster, best 0.500 / 1.000 (student-01)"
    found.on_trial_start(1, [], running(2))
    assert found.bar.status.detail == "1 of 4 done, 1 running, best 0.500 / 1.000 (student-01)"
    step()
    found.on_trial_recover(1, [], running(2))  # its process was lost
    assert ", 0 running," in found.bar.status.detail
    found.running_at, found.ended = found.running_at - WAITING, 4
    found.show()
    assert ", 0 running," in found.bar.status.detail  # none is left


def test_what_a_process_of_several_trials_remarks_is_said_once(recorder, caplog, monkeypatch):
    monkeypatch.setattr(recorder_module.log, "propagate", True)
    found = recorder()
    for remark in ("", "memory has room for 2", "memory has room for 2", ""):
        found.on_trial_result(0, [], running(1), {"epoch": 1, "remark": remark})
    assert caplog.messages == ["memory has room for 2"]


def test_epochs_between_cycle_ends_are_not_judged(recorder):
    found = recorder()
    assert "best" not in show(found, 1, row_of(1, 0.1, cycle_end=False))
    show(found, 1, row_of(2, 1.0))
    assert show(found, 2, row_of(2, 1.2), row_of(3, 0.5, cycle_end=False)).endswith("(student-01)")


def test_the_best_is_the_one_that_got_furthest_and_is_better_there(recorder):
    lucky = [row_of(2, 0.1), row_of(6, 0.1), row_of(14, 1.6)]  # the best cycle end of all, but not its last
    stopped, steady = [row_of(2, 0.2)], [row_of(2, 1.9), row_of(6, 1.7), row_of(14, 1.5)]
    found = recorder()
    show(found, 1, *lucky)
    show(found, 3, *stopped)
    assert show(found, 2, *steady).endswith("best 0.500 / 1.500 (student-02)")


def test_of_equals_the_lower_number_is_the_best_whichever_was_faster(recorder):
    found = recorder()
    show(found, 2, row_of(14, 1.0))
    assert show(found, 1, row_of(14, 1.0)).endswith("(student-01)")


def test_trials_of_an_earlier_run_count_whether_they_ended_or_are_resumed(recorder):
    ended, interrupted = recorded(1, row_of(2, 0.1)), recorded(2, row_of(2, 1.5), row_of(6, 1.4), state="running")
    found = recorder(earlier=(ended, interrupted))
    assert show(found, 3, row_of(2, 1.0)).endswith("best 0.500 / 1.400 (student-02)")
    assert found.bar.status.detail.startswith("1 of 4 done (1 stopped early)")  # 3: the middle of 0.1 and 1.5 is 0.8


def test_what_was_trained_beyond_a_verdict_does_not_count(recorder):
    found = recorder()
    show(found, 1, row_of(2, 1.0))
    show(found, 3, row_of(2, 3.0), row_of(6, 0.1))  # ahead of trial 2, to which it is compared
    assert "student-03" in found.bar.status.detail
    assert show(found, 2, row_of(2, 1.1)).endswith("best 0.500 / 1.000 (student-01)")


def test_trials_of_the_last_round_are_not_shown_as_the_best(recorder):
    found = recorder()
    show(found, 1, row_of(14, 1.0))
    assert show(found, 5, row_of(14, 0.1), seed=1).endswith("(student-01)")


def test_a_trial_that_raises_has_failed_and_the_log_says_why(recorder, tmp_path, monkeypatch):
    found, lines = recorder(), list[str]()
    monkeypatch.setattr("orchestrator.stages.recorder.log.error", lambda text, *parts: lines.append(text % parts))
    Scheduler(found.verdicts).on_trial_add(None, running(1))
    found.on_trial_start(0, [], running(1))
    assert found.bar.status.detail == "0 of 4 done, 1 running" and found.bar.status.done == 0
    found.on_trial_result(0, [], running(1), row_of(3, 1.0, cycle_end=False))
    assert found.bar.status.done == 3 and found.bar.status.total == 4 * 14
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(ZeroDivisionError("division by zero")))
    (tmp_path / "error.txt").write_text("Traceback\n  in step\nZeroDivisionError: division by zero\n")
    broken = running(1)
    broken.error_file, broken.pickled_error_file = str(tmp_path / "error.txt"), str(tmp_path / "error.pkl")
    found.on_trial_error(0, [], broken)
    found.finish()
    kept = Training.read(tmp_path / TRIALS / "student-01")
    assert (kept.state, kept.failure) == ("failed", "ZeroDivisionError: division by zero") and found.outage is None
    assert lines == ["student-01 failed: Traceback\n  in step\nZeroDivisionError: division by zero\n"]
    assert found.verdicts.trials[1].training.state == "failed"
    assert found.bar.status.detail == "1 of 4 done, 0 running" and found.bar.status.done == 14


def test_why_trials_fail_is_in_the_log_of_the_run():
    assert recorder_module.log.name == "stillhouse"


def test_a_death_without_a_text_is_told_all_the_same(recorder):
    found, dead = recorder(), running(1)
    Scheduler(found.verdicts).on_trial_add(None, dead)
    found.on_trial_error(0, [], dead)
    found.finish()
    kept = Training.read(found.plan.work / TRIALS / "student-01")
    assert (kept.state, kept.failure) == ("failed", "its process died")


@pytest.mark.parametrize(("epoch", "state"), [(2, "stopped"), (6, "stopped"), (14, "finished")])
def test_a_trial_that_ends_before_its_last_epoch_was_stopped(recorder, epoch, state):
    found, ended = recorder(), running(1)
    ended.last_result = row_of(epoch, 1.0)
    Scheduler(found.verdicts).on_trial_add(None, ended)
    found.on_trial_complete(0, [], ended)
    found.finish()
    kept = Training.read(found.plan.work / TRIALS / "student-01")
    assert (kept.state, kept.failure) == (state, None)


def test_a_process_that_is_lost_before_its_trial_starts_changes_nothing(recorder):
    found = recorder()
    found.on_trial_start(0, [], running(1))
    found.on_trial_recover(0, [], running(2))
    assert found.bar.status.detail == "0 of 4 done, 1 running"


def test_a_result_that_tells_of_the_storage_s_failure_ends_the_experiment_and_records_no_end(recorder, tmp_path):
    found, stopped = recorder(), running(1)
    stopped.last_result = {**WORST, "outage": "disk: full"}
    with pytest.raises(KeyboardInterrupt):
        found.on_trial_complete(0, [], stopped)
    assert found.outage == "disk: full" and found.has_given_up_early is False
    assert found.ended == 0 and not (tmp_path / TRIALS / "student-01").exists()


@pytest.mark.parametrize(("losses", "early"), [(1, True), (PROCESSES, True), (PROCESSES + 1, False)])
def test_a_lost_process_is_no_failure_and_one_that_is_lost_too_often_is_not_tried_again(
    recorder, tmp_path, losses, early
):
    found = recorder()
    show(found, 1, row_of(2, 1.0))
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(ActorDiedError()))
    (tmp_path / "error.txt").write_text("Failure\nThe actor died.\n")
    lost = running(1)
    lost.error_file, lost.pickled_error_file = str(tmp_path / "error.txt"), str(tmp_path / "error.pkl")
    lost.num_failures = losses
    with pytest.raises(KeyboardInterrupt):  # as Ctrl-C ends an experiment
        found.on_trial_error(0, [], lost)
    assert found.has_given_up_early == early
    assert found.outage == f"student-01: its process was lost {losses} times (The actor died.)"
    assert found.verdicts.trials[1].training.state == "running"


def test_a_trial_that_fails_is_no_longer_the_best(recorder):
    found = recorder()
    show(found, 1, row_of(6, 0.1))
    show(found, 2, row_of(2, 1.0))
    failed = running(1)
    failed.last_result = {**WORST, "failure": "the loss is nan"}
    Scheduler(found.verdicts).on_trial_complete(None, failed, failed.last_result)
    found.on_trial_complete(0, [], failed)
    found.finish()
    kept = Training.read(found.plan.work / TRIALS / "student-01")
    assert (kept.state, kept.failure) == ("failed", "the loss is nan")
    assert found.bar.status.detail.endswith("(student-02)")


def test_a_record_that_cannot_be_written_ends_the_experiment_at_the_next_event_or_at_the_end(recorder, tmp_path):
    found, ended = recorder(), running(1)
    (tmp_path / TRIALS).write_text("in the place of a folder")
    Scheduler(found.verdicts).on_trial_add(None, ended)
    ended.last_result = row_of(14, 1.0)
    found.on_trial_complete(0, [], ended)  # it does not wait
    found.finish()
    assert found.outage is not None and str(tmp_path / TRIALS) in found.outage
    found.outage = None
    found.on_trial_complete(0, [], ended)
    found.behind.last["student-01"].exception(60.0)
    with pytest.raises(KeyboardInterrupt):
        found.on_trial_result(0, [], running(2), row_of(2, 1.0))
    assert found.outage is not None and str(tmp_path / TRIALS) in found.outage
