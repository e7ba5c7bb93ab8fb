"""Trials of a search that one process trains as one: a bench, and a seat at it for each of Tune's trials.

A GPU is idle between the launches of a small student. Here several students of one architecture take a step together
(models/together.py). To Tune, journals and pages each is a trial of its own; a stopped one's seat is the next one's.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import batched
from threading import Condition, Lock

import torch

from models.batches import Clips
from models.fit import Diverged, Epoch, Fit, alone
from models.static import Static
from models.together import NotAlike, Together
from orchestrator.stages.trainable import Cuts, Plan, Running, versions_check
from orchestrator.training.data import Split
from orchestrator.training.record import Training
from orchestrator.training.task import Task, placed

PATIENCE = 1.0  # seconds that an epoch waits for a trial whose next step is not asked for: it may have ended
GONE = 60.0  # seconds after which another may have the seat of a trial that asks for nothing: its process was lost


class Seated(Running):
    """A training at a bench."""

    bench: "Bench"
    steps = 0  # that are asked for and not answered
    answered = math.inf  # when the last one was

    @property
    def is_gone(self) -> bool:
        """Whether nobody asks for it any more."""
        return not self.steps and time.monotonic() - self.answered > GONE

    def epoch(self, training: Fit) -> Epoch:
        return self.bench.epoch(self, training)

    def placed(self, task: Task, train: Split, validation: Split) -> tuple[Clips, Static]:
        return self.bench.placed(task, train, validation)

    @property
    def kind(self) -> tuple[object, ...]:
        """Trainings of one kind can be trained as one: models and batches have the same shapes."""
        task = self.task
        return repr(task.model), task.recipe.batch_size, task.recipe.crop_frames, task.copies, self.training.cut


class Bench:
    """Trains, as one, the trainings that have a seat. An actor, in which a thread serves each of them.

    One thread works at a time, for torch's random generator is one: each holds `turn`, but while it waits for an epoch.
    The last that becomes ready for one trains those of all.
    """

    def __init__(self, plan: Plan, cuts: Callable[[], Cuts]) -> None:
        """`cuts` fetches the splits: Ray starts a lost actor again, but not with large arguments."""
        self.plan, self.cuts, self.check = plan, cuts(), versions_check(plan)
        self.seats, self.members = Lock(), dict[str, Seated]()
        self.turn = Condition()
        self.ready = dict[Fit, Seated]()
        self.results = dict[Fit, Epoch | Exception]()
        self.clips = dict[tuple[str, bool, int], tuple[Clips, Static]]()
        self.groups: list[Together] = []  # of the last epoch
        self.most = dict[tuple[object, ...], int]()  # of a kind, students that can be trained as one, where not all can
        self.rehearsed = dict[tuple[object, ...], int]()  # of a kind, the most that have shown that they can
        self.suspects = set[str]()  # trials of a group that failed: they are trained alone, so that one fails alone
        self.remark = ""  # why fewer are trained as one than could be

    def __repr__(self) -> str:
        return "students of the search, as one"

    def taken(self) -> int:
        """The seats that are taken."""
        return len(self.members)

    def join(self, training: Training) -> bool:
        """Take a seat; False where none is free. A training that has one begins anew, from its journal."""
        with self.seats:
            self.members = {trial: seated for trial, seated in self.members.items() if not seated.is_gone}
            if training.trial not in self.members and len(self.members) >= self.plan.together:
                return False
            self.seat(training)
            return True

    def seat(self, training: Training) -> Seated:
        """A seat for the training."""
        seated = self.members[training.trial] = Seated(self.plan, self.cuts, training, self.check)
        seated.bench, seated.answered = self, time.monotonic()
        return seated

    def leave(self, trial: str) -> None:
        """Give the seat up."""
        with self.turn, self.seats:
            if (seated := self.members.pop(trial, None)) is not None:
                seated.leave()
            self.turn.notify_all()

    def step(self, training: Training) -> dict[str, object]:
        """As Running.step, with a `remark` where something is to be said. One that has ended has no seat any more."""
        with self.seats:
            seated = self.members.get(training.trial) or self.seat(training)
            seated.steps += 1
        try:
            with self.turn:
                result = {**seated.step(), "remark": self.remark}
                if result["done"] and self.members.get(training.trial) is seated:
                    self.leave(training.trial)
                return result
        except Exception:
            self.members.pop(training.trial, None)  # Tune tries it again, here or elsewhere
            raise
        finally:
            seated.steps -= 1
            seated.answered = time.monotonic()

    def placed(self, task: Task, train: Split, validation: Split) -> tuple[Clips, Static]:
        """The clips on the device: all trainings on the same ones have one copy."""
        key = task.device, task.copies, id(train)
        if key not in self.clips:
            self.clips[key] = placed(task, train, validation)
        return self.clips[key]

    def epoch(self, seated: Seated, training: Fit) -> Epoch:
        """The training's next epoch, beside those of all who are ready."""
        self.ready[training] = seated
        self.turn.notify_all()
        while training not in self.results:
            if self.is_complete():
                self.train()
            else:
                self.turn.wait(PATIENCE / 4)
        result = self.results.pop(training)
        if isinstance(result, Exception):
            raise result
        return result

    def is_complete(self) -> bool:
        """Whether nobody comes any more: all others are ready, or have been away for longer than a moment."""
        ready = set(map(id, self.ready.values()))
        away = [seated for seated in list(self.members.values()) if id(seated) not in ready]
        return not any(seated.steps or time.monotonic() - seated.answered < PATIENCE for seated in away)

    def train(self) -> None:
        """Train an epoch of all who are ready, those of one kind as one."""
        ready = sorted(self.ready.items(), key=lambda pair: pair[1].training.number)
        torch.set_num_threads(ready[0][1].task.threads)  # which counts for the thread that says so
        self.ready.clear()
        kinds = dict[tuple[object, ...], dict[Fit, Seated]]()
        for training, seated in ready:
            own = seated.training.trial if seated.training.trial in self.suspects else ""
            kinds.setdefault((*seated.kind, own), {})[training] = seated
        before, self.groups = self.groups, []
        for kind, alike in kinds.items():
            results = self.trained(kind, list(alike), before)
            if any(isinstance(result, torch.AcceleratorError) for result in results):
                os._exit(1)  # the device is of no use to this process any more; Ray starts another
            if len(alike) > 1 and any(is_fault(result) for result in results):
                self.suspects |= {seated.training.trial for seated in alike.values()}
            self.results |= zip(alike, results, strict=True)
        self.turn.notify_all()

    def trained(
        self, kind: tuple[object, ...], trainings: Sequence[Fit], before: Sequence[Together]
    ) -> list[Epoch | Exception]:
        """The next epoch of each, or what has become of it; `before` are the groups that were trained before."""
        most, known = self.most.get(kind, len(trainings)), self.rehearsed.get(kind, 0)
        if len(trainings) > most:
            parts = [self.trained(kind, part, before) for part in batched(trainings, most)]
            return [result for part in parts for result in part]
        if len(trainings) == 1:
            return [result_of(partial(alone, trainings[0]))]
        is_begun = False
        try:
            group = next((one for one in before if one.trainings == list(trainings)), None) or Together(trainings)
            if len(trainings) > known:
                group.rehearse()
                self.rehearsed[kind] = len(trainings)
            self.groups.append(group)
            is_begun = True
            return [*group.epoch()]
        except NotAlike as error:
            self.remark = f"students are trained one after another: {error}; set search.together to 1"
            self.most[kind] = 1
        except torch.OutOfMemoryError as error:
            self.most[kind] = len(trainings) // 2
            self.remark = f"memory has room for {self.most[kind]} of {len(trainings)} students as one"
            if is_begun:  # each goes on from its snapshot, when Tune tries it again
                return [error for _ in trainings]
        except Exception as error:  # of one of them: nobody knows whose
            return [error for _ in trainings]
        return self.trained(kind, trainings, before)


def result_of(epoch: Callable[[], Epoch]) -> Epoch | Exception:
    """The epoch, or why there is none."""
    try:
        return epoch()
    except Exception as error:
        return error


def is_fault(result: Epoch | Exception) -> bool:
    """Whether a training failed by something that could be another's doing."""
    return isinstance(result, Exception) and not isinstance(result, Diverged | torch.OutOfMemoryError)
