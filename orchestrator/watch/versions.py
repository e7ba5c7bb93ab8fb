"""state.json in versions: a page that has one is sent what has changed since."""

import json
import uuid
from collections.abc import Sequence
from typing import NamedTuple, NotRequired, TypedDict

from orchestrator.monitor.schema import RunState
from orchestrator.training.rows import Metric
from orchestrator.watch.search import Parallel
from orchestrator.watch.trials import TrialView


class Head(TypedDict):
    """state.json without what is large. Paths of this machine are not in it."""

    name: str
    run: str
    state: RunState
    started: str
    updated: str
    message: str | None
    select_by: Metric
    generated: bool
    gone: bool  # the driver has given no sign of life
    seconds: float
    best: str | None  # of the search's trials
    best_is_final: bool
    outcome: str | None  # what distillation changes
    stages: list[dict[str, object]]  # StageReport without its folders
    importances: list[tuple[str, float]]
    no_importances: str  # the reason


class State(Head):
    """state.json, as the page gets it: whole, or what has changed since the tag that the page names."""

    tag: str  # of this state
    whole: bool  # whether all trainings are in `trials`; else those that have changed
    trials: list[TrialView]
    parallel: NotRequired[Parallel | None]  # left out where it has not changed


class Answer(NamedTuple):
    """The state as a page gets it; `tag` is another one where it has changed."""

    tag: str
    body: bytes


class Versions:
    """The latest state, and in which version each of its trainings was last another."""

    def __init__(self) -> None:
        self.series = uuid.uuid4().hex[:8]  # a server that is started again counts from the beginning
        self.number = 0
        self.whole_since = 0  # the version since which no training has gone
        self.head: Head | None = None
        self.trials: dict[str, tuple[int, TrialView]] = {}  # id -> its version, and what is shown of it
        self.parallel: tuple[int, Parallel | None] = (0, None)
        self.answers: dict[int, Answer] = {}  # by the version that the page has

    def update(self, head: Head, trials: Sequence[TrialView], parallel: Parallel | None) -> None:
        """Take the state as it is now. What equals the version before is not another one."""
        now = self.number + 1
        known = {view["id"]: (now, view) for view in trials}
        for name, (number, view) in self.trials.items():
            if name in known and known[name][1] == view:
                known[name] = (number, view)
        gone = self.trials.keys() - known.keys()
        if self.parallel[1] != parallel:
            self.parallel = (now, parallel)
        if head != self.head or known != self.trials or self.parallel[0] == now:
            self.number, self.head, self.trials = now, head, known
            self.whole_since = now if gone else self.whole_since
            self.answers.clear()

    @property
    def tag(self) -> str:
        return f"{self.series}-{self.number}"

    def answer(self, since: str) -> Answer:
        """The state for a page that has the version with the tag `since`, or none that counts here."""
        series, _, number = since.partition("-")
        has = int(number) if series == self.series and number.isdecimal() and len(number) < 20 else 0
        has = has if self.whole_since <= has <= self.number else 0
        if has not in self.answers:
            assert self.head is not None
            state: State = {
                **self.head,
                "tag": self.tag,
                "whole": not has,
                "trials": [view for changed, view in self.trials.values() if changed > has or not has],
            }
            if self.parallel[0] > has or not has:
                state["parallel"] = self.parallel[1]
            self.answers[has] = Answer(self.tag, json.dumps(state, allow_nan=False, separators=(",", ":")).encode())
        return self.answers[has]
