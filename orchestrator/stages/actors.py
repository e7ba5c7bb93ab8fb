"""The final trainings as Ray actors: started side by side, followed to their ends."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from features.corpus import CorpusError
from orchestrator.cluster.resources import resources_within_reach, running_places
from orchestrator.config.experiment import Resources
from orchestrator.config.trained import StudentSettings
from orchestrator.monitor.view import Bar
from orchestrator.stages.context import Context, Data
from orchestrator.stages.final_actor import Averaging, Final, Outcome
from orchestrator.stages.recorder import PROCESSES
from orchestrator.stages.students import exported_of, kind_of, training_of, trial_of
from orchestrator.training.record import TRIALS
from orchestrator.training.task import Task


def start_actors(
    context: Context, tasks: dict[str, Task], student: StudentSettings, begun: dict[str, Path | None], work: Path
) -> dict[str, Any]:
    """Start one actor for each training of the stage, by its name."""
    config, store = context.config, context.store
    settings = Averaging.of(config, student)
    resources = config.resources
    gpus = share_of_gpus(resources, len(tasks))
    remote: Any = ray.remote(Final)
    options = {
        "num_cpus": resources.cpus_per_trial,
        "num_gpus": gpus,
        "max_restarts": PROCESSES,
        "max_task_retries": PROCESSES,
        "max_concurrency": 2,  # one thread works, the other answers `progress`
        "namespace": work.name,
    }
    actors = {}
    for name, task in tasks.items():
        training_of(name, task).write(store, work)
        actors[name] = remote.options(name=trial_of(name), **options).remote(
            name,
            replace(task, device="cuda" if gpus else "cpu"),
            replace(settings, begun=begun[name]),
            store,
            work / TRIALS / trial_of(name),
            context.run,
        )
    return actors


def share_of_gpus(resources: Resources, actors: int) -> float:
    """Of a final actor, whose training is the longest: a whole GPU if there are enough, but no less than a trial's.

    Where trials do without, it has what GPU a running node has beside the CPUs; none is started for it.
    """
    if resources.gpus_per_trial:
        return max(resources.gpus_per_trial, min(1.0, resources_within_reach().get("GPU", 0) / actors))
    share = min(1.0, ray.cluster_resources().get("GPU", 0) / actors)
    return share if share and running_places(resources.cpus_per_trial, share) else 0.0


def follow(
    actors: dict[str, Any],
    data: Data,
    epochs: int,
    bar: Bar,
    failed: Callable[[str, RayTaskError], None],
    exported: bool,
    trained: bool = False,
) -> dict[str, Outcome]:
    """Wait for the actors and show their progress. Where one fails, its reason is recorded and the stage ends with it.

    With `exported` the students that are no twins export, too; `trained` ones have been trained by actors before these.

    An actor that is done is killed at once, because other work may wait for its resources.
    """
    shared, kind = ray.put(data), exported_of({kind_of(name) for name in actors})
    work = {actor.run.remote(shared, export=exported and kind_of(name) == kind): name for name, actor in actors.items()}
    outcomes: dict[str, Outcome] = {}
    rows: dict[str, Mapping[str, Any]] = {name: {"epoch": epochs} for name in actors if trained}
    requests: dict[Any, str] = {}
    try:
        while work:
            for reference in ray.wait(list(work), timeout=1.0)[0]:
                name = work.pop(reference)
                try:
                    outcomes[name] = ray.get(reference)
                except RayTaskError as error:
                    if not isinstance(error, OSError | CorpusError):  # of the storage, not of the training
                        failed(name, error)
                    raise
                rows[name] = {**rows.get(name, {}), "epoch": epochs}
                ray.kill(actors[name])
                requests = {answer: who for answer, who in requests.items() if who != name}
            # An actor that waits for a place cannot answer yet, so answers are not waited for.
            asked = [] if trained else [name for name in work.values() if name not in requests.values()]
            # A request that an actor dies with is not repeated: Ray would say so in the terminal, at every actor's end.
            requests |= {actors[name].progress.options(max_task_retries=0).remote(): name for name in asked}
            for answer in ray.wait(list(requests), num_returns=len(requests), timeout=0)[0]:
                rows[requests.pop(answer)] = ray.get(answer)
            texts = [progress_of(name, row, epochs) for name, row in sorted(rows.items())]
            if later := len(actors) - len(rows):
                texts.append(f"{later} not begun")
            exporting = exported and any(
                kind_of(name) == kind and rows.get(name, {}).get("epoch") == epochs for name in work.values()
            )
            bar.update(
                sum(row["epoch"] for row in rows.values()),
                epochs * len(actors),
                ", ".join(texts) + ", exporting" * exporting,
            )
    finally:
        for actor in actors.values():
            ray.kill(actor)
    return outcomes


def progress_of(name: str, row: Mapping[str, Any], epochs: int) -> str:
    """Such as "plain 6/30 0.449"; without an accuracy where there is no validation, or no epoch yet."""
    accuracy = row.get("accuracy")
    return f"{name} {row['epoch']}/{epochs}" + ("" if accuracy is None else f" {accuracy:.3f}")
