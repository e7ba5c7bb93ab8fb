"""What Tune is told of a stage's trials, and what its scheduler says of them, without a Ray."""

import io
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from orchestrator.config.experiment import Resources
from orchestrator.config.loading import load
from orchestrator.config.search import HalvingSettings
from orchestrator.errors import UserError
from orchestrator.monitor.status import StageStatus
from orchestrator.monitor.view import Bar, View
from orchestrator.stages import tuning
from orchestrator.stages.bench import Bench
from orchestrator.stages.recorder import PROCESSES, Recorder
from orchestrator.stages.search import no_snapshots, trial_task
from orchestrator.stages.stopping import Halving
from orchestrator.stages.trainable import WORST, Plan
from orchestrator.stages.tuning import SEAT, ProcessLost, Scheduler, proposal, run_trials
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage.scratch import TUNE
from orchestrator.storage.store import Store
from orchestrator.training.record import FINISHED, RUNNING, Training
from tests.orchestrator.training.rows import row_of

TRIALS = 4


def training(number: int) -> Training:
    return Training("search", f"student-{number:02d}", number, 14, {"recipe.temperature": 2.0})


def running(number: int) -> Any:
    """All that the scheduler knows of a trial of Tune's."""
    return SimpleNamespace(config=proposal(training(number)))


@pytest.fixture
def recorder(tmp_path) -> Recorder:
    plan = Plan("run", Store(tmp_path), tmp_path, partial(trial_task, load("demo")), no_snapshots, "cpu", True)
    bar = Bar(View(Console(file=io.StringIO())), "search", None, StageStatus("search"))
    verdicts = Verdicts(Halving(HalvingSettings(reduction_factor=2)), (2, 6, 14), "log_loss", lambda number: False)
    return Recorder(plan, bar, verdicts, lambda: TRIALS, 14)


@pytest.fixture
def told(monkeypatch) -> dict[str, Any]:
    """What an experiment of Tune's is given that ends at once, on a cluster with three places."""
    found: dict[str, Any] = {}

    def run(trainable: Any, **options: Any) -> None:
        found.update(options, trainable=trainable, storage_exists=Path(options["storage_path"]).is_dir())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Tune leaves its own handler behind

    monkeypatch.setattr(tuning.tune, "run", run)
    monkeypatch.setattr(tuning, "concurrency", lambda resources: 3 if resources.cpus_per_trial == 2 else 0)
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "0")
    monkeypatch.setenv("TUNE_DISABLE_SIGINT_HANDLER", "1")
    return found


def run(recorder: Recorder, **options: Any) -> None:
    cut = SimpleNamespace(cut="", train=None, validation=None)
    resources = Resources(cpus_per_trial=2, gpus_per_trial=0.5)
    run_trials(recorder.plan, recorder.verdicts, recorder, [cut], resources, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("reuses_processes", [True, False])
def test_tune_is_told_where_trials_run_how_many_at_once_and_how_often_a_process_may_be_lost(
    recorder, told, reuses_processes
):
    recorder.ended, recorder.plan = TRIALS, replace(recorder.plan, reuses_processes=reuses_processes)
    handler = signal.getsignal(signal.SIGINT)
    run(recorder, num_samples=7)
    assert signal.getsignal(signal.SIGINT) is handler
    trainable, scheduler, storage = told.pop("trainable"), told.pop("scheduler"), Path(told.pop("storage_path"))
    assert trainable.__name__ == trainable.__qualname__ == "Training"
    assert trainable.default_resource_request({}).bundles == [{"CPU": 2.0, "GPU": 0.5}]
    assert isinstance(scheduler, Scheduler) and scheduler.verdicts is recorder.verdicts
    assert told.pop("storage_exists") and storage.name.startswith(TUNE) and not storage.exists()
    for name in ("trial_name_creator", "trial_dirname_creator"):
        assert told.pop(name)(running(1)) == "student-01"
    assert told == {
        "name": recorder.plan.work.name,
        "callbacks": [recorder],
        "reuse_actors": reuses_processes,
        "verbose": 0,
        "max_failures": PROCESSES,
        "max_concurrent_trials": 6,
        "raise_on_failed_trial": False,
        "num_samples": 7,
    }
    assert os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"
    assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "0"


def test_trials_that_are_trained_as_one_have_seats_at_as_many_processes_as_there_are_places(
    recorder, told, monkeypatch
):
    made, killed = list[dict[str, Any]](), list[Any]()

    class Made:
        """What Ray makes of an actor's class."""

        def options(self, **options: Any) -> "Made":
            made.append(options)
            return self

        def remote(self, plan: Plan, cuts: Any) -> Any:
            assert plan is recorder.plan and callable(cuts)
            return made[-1], len(killed)

    monkeypatch.setattr(tuning.ray, "put", lambda value: value)
    monkeypatch.setattr(tuning.ray, "remote", lambda kind: Made() if kind is Bench else None)
    monkeypatch.setattr(tuning.ray, "kill", killed.append)
    for together, benches in ((2, 2), (3, 2), (8, 1)):  # of the three places
        recorder.plan = replace(recorder.plan, reuses_processes=True, together=together)
        with pytest.raises(KeyboardInterrupt):  # none of the four has ended
            run(recorder)
        assert told["max_concurrent_trials"] == benches * together and len(killed) == benches
        assert told["trainable"].default_resource_request({}).bundles == [{"memory": SEAT}]
        assert told["trainable"].__name__ == "Training"
        expected = {"num_cpus": 2, "num_gpus": 0.5, "max_concurrency": 2 * together + 2, "max_restarts": -1}
        assert made == [expected]
        made.clear()
        killed.clear()


@pytest.mark.parametrize(("early", "kind"), [(True, ProcessLost), (False, UserError)])
@pytest.mark.usefixtures("told")
def test_after_an_outage_only_what_tune_gave_up_early_is_tried_again(recorder, early, kind):
    recorder.outage, recorder.has_given_up_early = "disk: full", early
    with pytest.raises(UserError) as raised:
        run(recorder)
    assert raised.type is kind
    assert str(raised.value) == "disk: full; what is finished is kept, the same command goes on from there"


@pytest.mark.usefixtures("told")
def test_an_experiment_that_ends_before_its_trials_was_interrupted(recorder):
    recorder.ended = TRIALS - 1
    with pytest.raises(KeyboardInterrupt):
        run(recorder)


def test_the_scheduler_stops_what_the_verdicts_stop(recorder):
    scheduler, said = Scheduler(recorder.verdicts), list[str]()
    for number, loss in ((1, 1.0), (2, 1.0), (3, 9.0)):
        scheduler.on_trial_add(None, running(number))
        said.append(scheduler.on_trial_result(None, running(number), row_of(2, loss)))
    assert said == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]


def test_the_waiting_trial_of_the_lowest_number_gets_the_next_process(recorder):
    def live(number: int, status: str = Trial.PENDING, process: Any = None) -> Any:
        state = SimpleNamespace(ray_actor=process)
        return SimpleNamespace(config=proposal(training(number)), status=status, temporary_state=state)

    trials = [live(10), live(3, Trial.RUNNING, "a"), live(6), live(4, process="of one that has ended"), live(9)]
    choose = Scheduler(recorder.verdicts).choose_trial_to_run
    assert choose(SimpleNamespace(get_live_trials=lambda: trials)) is trials[2]
    assert choose(SimpleNamespace(get_live_trials=lambda: trials[1:2] + trials[3:4])) is None


def test_the_scheduler_tells_the_verdicts_how_trials_end_and_an_outage_ends_none(recorder):
    scheduler = Scheduler(recorder.verdicts)
    for number, result in ((1, row_of(14, 1.0)), (2, {**WORST, "outage": "disk: full"})):
        scheduler.on_trial_add(None, running(number))
        scheduler.on_trial_complete(None, running(number), result)
    trials = recorder.verdicts.trials
    assert [(trials[number].training.state, trials[number].epochs) for number in (1, 2)] == [
        (FINISHED, 14),
        (RUNNING, 0),
    ]


def test_a_training_is_the_configuration_of_a_trial():
    assert proposal(training(1)) == {"trial": vars(training(1))}
