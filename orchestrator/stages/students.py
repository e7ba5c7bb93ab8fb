"""The students of the final stage: their names, their trainings, and which of them is exported."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.config.experiment import Experiment
from orchestrator.config.trained import StudentSettings, apply_settings
from orchestrator.stages.final_actor import Outcome
from orchestrator.stages.rounds import WITHOUT_TEACHERS
from orchestrator.stages.search import Search, student_task, trial_task
from orchestrator.training.best import best_of
from orchestrator.training.record import RUNNING, State, Training
from orchestrator.training.rows import Metric
from orchestrator.training.task import Task

DISTILLED, PLAIN = "distilled", "plain"
STUDENT_WEIGHTS, TWIN_WEIGHTS = "student.safetensors", "plain.safetensors"  # in the artifact


def best_student(config: Experiment, search: Search | None) -> StudentSettings:
    """The recipe that the search has found, or the experiment's own."""
    return apply_settings(config.student, search.settings) if search else config.student


def tasks_of(config: Experiment, student: StudentSettings) -> dict[str, Task]:
    """By name, the trainings of each seed; students of one seed start from the same weights.

    A student without soft labels is the plain one itself.
    """
    is_distilled = any(student.recipe.soft_weights)
    students = {DISTILLED if is_distilled else PLAIN: student}
    if config.plain and is_distilled:
        students[PLAIN] = apply_settings(student, WITHOUT_TEACHERS)
    return {
        named(kind, seed): student_task(config, one, seed)
        for seed in range(config.final.seeds)
        for kind, one in students.items()
    }


def named(kind: str, seed: int) -> str:
    """Such as "distilled", and "distilled-seed1" for the other seeds."""
    return f"{kind}-seed{seed}" if seed else kind


def kind_of(name: str) -> str:
    """DISTILLED or PLAIN, of a name by `named`."""
    return name.partition("-")[0]


def exported_of(kinds: Iterable[str]) -> str:
    """Of the kinds that are trained, the one that is exported."""
    return DISTILLED if DISTILLED in kinds else PLAIN


def trial_of(name: str) -> str:
    """The training's name in its folder."""
    return f"final-{name}"


def training_of(name: str, task: Task, state: State = RUNNING) -> Training:
    """The record of a final training."""
    kind, _, seed = name.partition("-seed")
    number = 2 * int(seed or 0) + [DISTILLED, PLAIN].index(kind) + 1
    return Training("final", trial_of(name), number, task.recipe.epochs, state=state, seed=int(seed or 0))


def begun_by(config: Experiment, task: Task, student: StudentSettings, search: Search | None) -> Path | None:
    """The journal of the trial that was trained as this training begins, where its last snapshot is kept."""
    if search is None or config.search is None:
        return None
    ends, epochs = config.search.cycle_ends, task.recipe.cycle_ends
    if epochs[: len(ends)] != ends or student.average[0] < ends[-1]:
        return None
    beginning = replace(task, recipe=replace(task.recipe, cycle_ends=ends))
    for folder in search.kept():
        if trial_task(config, Training.read(folder)) == beginning:
            return folder
    return None


def chosen_of(outcomes: Mapping[str, Outcome], metric: Metric) -> dict[str, str]:
    """Of each kind the student that is best on validation, its weights rounded; without validation the first."""
    found = {}
    for kind in (DISTILLED, PLAIN):
        names = [name for name in outcomes if kind_of(name) == kind]
        if names:
            found[kind] = best_of(names, metric, lambda name: outcomes[name].averaged.fp16) or names[0]
    return found
