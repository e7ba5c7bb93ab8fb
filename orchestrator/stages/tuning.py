"""Trainings as Ray Tune trials. What teachers and search have in common.

Nothing that Tune stores is needed later: every training's rows and snapshots are in its journal. To resume after any
failure, a run starts the trials that have not ended, and teachers that failed, from their snapshots.
"""

import logging
import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.cluster.resources import concurrency
from orchestrator.config.experiment import Resources
from orchestrator.errors import UserError
from orchestrator.stages.bench import Bench
from orchestrator.stages.context import Data
from orchestrator.stages.recorder import PROCESSES, Recorder, state_of
from orchestrator.stages.seat import Seat
from orchestrator.stages.trainable import FitTrial, Plan
from orchestrator.stages.verdicts import Verdicts
from orchestrator.storage.scratch import tune_folder
from orchestrator.storage.store import Store
from orchestrator.training.journal import fetch
from orchestrator.training.record import Training

log = logging.getLogger("stillhouse")
ATTEMPTS = PROCESSES + 1  # at the trials of a stage
SEAT = 300e6  # bytes that a trial needs whose training is done in another process
CLASS = "Training"  # of a trial on Ray's Actors page, and in the titles of processes; Tune's own is ResourceTrainable


class ProcessLost(UserError):
    """Tune has given up a trial whose process was lost fewer times than allowed; a new `tune.run` can resume it."""


class Scheduler(FIFOScheduler):
    """Reports to the verdicts what trials reach, stops those that the verdicts stop, and starts trials by number."""

    def __init__(self, verdicts: Verdicts) -> None:
        super().__init__()
        self.verdicts = verdicts

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        training = Training(**trial.config["trial"])
        if training.number not in self.verdicts.trials:
            self.verdicts.enter(training)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
        number = trial.config["trial"]["number"]
        self.verdicts.report(number, result)
        return TrialScheduler.STOP if number in self.verdicts.stopped else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
        if "outage" in result:
            return  # the experiment ends, the trial can be resumed
        self.verdicts.report(trial.config["trial"]["number"], result)
        self.verdicts.end(trial.config["trial"]["number"], state_of(result, trial.config["trial"]["epochs"]))

    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        """The waiting trial of the lowest number, for which the verdicts of the others wait.

        Tune's own choice can be a trial that is just given the process of one that has ended. The next such process
        then goes to a trial that was proposed a moment ago, past all that wait.
        """
        waiting = [
            trial
            for trial in tune_controller.get_live_trials()
            if trial.status == Trial.PENDING and not trial.temporary_state.ray_actor
        ]
        return min(waiting, key=lambda trial: trial.config["trial"]["number"], default=None)


def run_trials(
    plan: Plan,
    verdicts: Verdicts,
    recorder: Recorder,
    cuts: Sequence[Data],
    resources: Resources,
    **options: Any,
) -> None:
    """Run trials on Tune until each has ended, each on one of `cuts`. `options` are tune.run's, such as the searcher.

    Raises KeyboardInterrupt after Ctrl-C, UserError where the storage failed, a node has other versions, or a process
    was lost too often; what is done is kept.
    """
    splits = {data.cut: (data.train, data.validation) for data in cuts}
    places = concurrency(resources)
    shared = ray.put(splits) if plan.together > 1 else None  # is kept for processes that are started again
    wanted = math.ceil((recorder.total() - recorder.ended) / plan.together)
    benches = benches_of(plan, shared, resources, min(places, wanted))
    if benches:
        seats = tune.with_parameters(Seat, benches=benches)
        trainable, most = tune.with_resources(seats, {"memory": SEAT}), len(benches) * plan.together
    else:
        needs = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial}
        trainable = tune.with_resources(tune.with_parameters(FitTrial, plan=plan, cuts=splits), needs)
        # Twice as many as there are places: what waits takes those of workers that join the cluster meanwhile.
        most = 2 * places
    trainable.__name__ = trainable.__qualname__ = CLASS
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the journals record everything
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "0"  # its handler shows below whether there was a Ctrl-C
    handler = signal.getsignal(signal.SIGINT)
    with tune_folder() as scratch:
        try:
            tune.run(
                trainable,
                name=plan.work.name,
                storage_path=str(scratch),
                callbacks=[recorder],
                scheduler=Scheduler(verdicts),
                reuse_actors=plan.reuses_processes,
                verbose=0,
                max_failures=PROCESSES,
                max_concurrent_trials=most,
                trial_name_creator=name_of,
                trial_dirname_creator=name_of,
                raise_on_failed_trial=False,
                **options,
            )
        finally:
            # Tune leaves its own handler behind, which would ignore the next Ctrl-C. At the first one it puts ours
            # back: nothing else shows one that came when all trials had just ended.
            is_interrupted = signal.signal(signal.SIGINT, handler) is handler
            recorder.finish()
            for bench in benches:
                ray.kill(bench)
    if recorder.outage:
        kind = ProcessLost if recorder.has_given_up_early else UserError
        raise kind(f"{recorder.outage}; what is finished is kept, the same command goes on from there")
    if is_interrupted or recorder.ended < recorder.total():  # Tune calls the trials of an interrupted one finished
        raise KeyboardInterrupt


def benches_of(plan: Plan, cuts: Any, resources: Resources, count: int) -> list[Any]:
    """Actors that train several trials as one, each with the resources of a trial; none where each trial is alone.

    `cuts` is Ray's reference to the splits.
    """
    if plan.together == 1:
        return []
    actor: Any = ray.remote(Bench).options(
        num_cpus=resources.cpus_per_trial,
        num_gpus=resources.gpus_per_trial,
        max_concurrency=2 * plan.together + 2,  # for a step and a leave of each, and who asks for a seat
        max_restarts=-1,  # its trials are resumed from their journals
    )
    return [actor.remote(plan, partial(ray.get, cuts)) for _ in range(count)]


def until_ended(run: Callable[[], None], store: Store, work: Path) -> None:
    """Run the trials of `work`, and again where Tune has given one up too early.

    Where two calls of a lost process were under way, Tune counts two losses and does not retry after the second.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            return run()
        except ProcessLost as loss:
            if not left:
                raise
            log.warning("%s", loss)
            fetch(store, work)


def name_of(trial: Any) -> str:
    """The training's name, as Tune's trial has it."""
    return trial.config["trial"]["trial"]


def proposal(training: Training) -> dict[str, Any]:
    """A training as the configuration of a Tune trial."""
    return {"trial": asdict(training)}
