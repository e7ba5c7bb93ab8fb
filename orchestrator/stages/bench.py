"""Trials of a search that one process trains as one: a bench, and a seat at it for each of Tune's trials.

A GPU is idle between the launches of a small student. Here several students of one architecture take a step together
(models/together.py). To Tune, journals and pages each is a trial of its own; a stopped one's seat is the next one's.
"""

import math
import time
from collections.abc import Callable, Sequence
from itertools import batched
from threading import Condition, Lock

import torch

from models.batches import Clips
from models.fit import Epoch, Fit, alone
from models.static import Static
from models.together import NotAlike, Together
from orchestrator.stages.trainable import Cuts, Plan, Running, versions_check
from orchestrator.training.data import Split
from orchestrator.training.record import Training
from orchestrator.training.task import Task, placed

PATIENCE = 1.0  # seconds that those who are ready for an epoch wait for the others
GONE = 60.0  # seconds after which a seat that asks for nothing is free: its process was lost


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
    Those that are ready for one are trained by the last of them, or when the others have not come for a moment.
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
        self.most = plan.together  # students that the memory has room for
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
                if result["done"]:
                    self.leave(training.trial)
                return result
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
        until = time.monotonic() + PATIENCE
        while training not in self.results:
            if len(self.ready) >= len(self.members) or time.monotonic() >= until:
                self.train()
            else:
                self.turn.wait(PATIENCE)
        result = self.results.pop(training)
        if isinstance(result, Exception):
            raise result
        return result

    def train(self) -> None:
        """Train an epoch of all who are ready, those of one kind as one."""
        ready = sorted(self.ready.items(), key=lambda pair: pair[1].training.number)
        torch.set_num_threads(ready[0][1].task.threads)  # which counts for the thread that says so
        self.ready.clear()
        kinds = dict[tuple[object, ...], list[Fit]]()
        for training, seated in ready:
            kinds.setdefault(seated.kind, []).append(training)
        before, self.groups = self.groups, []
        for alike in kinds.values():
            self.results |= zip(alike, self.trained(alike, before), strict=True)
        self.turn.notify_all()

    def trained(self, trainings: Sequence[Fit], before: Sequence[Together]) -> list[Epoch | Exception]:
        """The next epoch of each, or what has become of it; `before` are the groups that were trained before."""
        if len(trainings) > self.most:
            parts = [self.trained(part, before) for part in batched(trainings, self.most)]
            return [result for part in parts for result in part]
        if len(trainings) == 1:
            return [one_epoch(trainings[0])]
        try:
            group = next((one for one in before if one.trainings == list(trainings)), None) or Together(trainings)
        except NotAlike as error:
            self.remark = f"students are trained one after another: {error}; set search.together to 1"
            self.most = 1
        except torch.OutOfMemoryError:
            self.most = len(trainings) // 2
            self.remark = f"memory has room for {self.most} of {len(trainings)} students as one"
        else:
            self.groups.append(group)
            try:
                return [*group.epoch()]
            except Exception as error:  # each of them ends by it
                return [error for _ in trainings]
        return self.trained(trainings, before)


def one_epoch(training: Fit) -> Epoch | Exception:
    """Alone."""
    try:
        return alone(training)
    except Exception as error:
        return error
