"""The teachers' snapshots predict whole clips, each as a Ray task. The tasks' processes import no more than this."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

from models.prediction import Predictions, predict
from orchestrator.config.experiment import Resources
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_arrays, snapshots_in
from orchestrator.training.data import Features, Member
from orchestrator.training.inputs import INPUT
from orchestrator.training.task import Task, restored, usable


def predict_snapshot(
    task: Task, store: Store, file: Path, features: Features, shifts: tuple[int, ...] = (0,)
) -> Predictions:
    """One snapshot's predictions of whole clips."""
    store.pull(file)
    torch.set_num_threads(task.threads)
    task = replace(task, device=usable(task.device))
    model = restored(task, Member(task.model, load_arrays(file)))
    return predict(model, features.open().to(torch.device(task.device)), INPUT, shifts)


def predict_teachers(
    tasks: Mapping[str, Task],
    resources: Resources,
    store: Store,
    folders: Mapping[str, Path],
    features: Features,
    shifts: tuple[int, ...] = (0,),
) -> dict[str, list[ray.ObjectRef]]:
    """Start predicting with every snapshot of every teacher; references to Predictions, by teacher.

    `tasks` are the teachers' trainings, and `folders` their artifacts, by name.
    """
    remote: Any = ray.remote(num_cpus=resources.cpus_per_trial, num_gpus=resources.gpus_per_trial)(predict_snapshot)
    tasks = {name: replace(task, device=resources.device) for name, task in tasks.items()}
    shared = ray.put(features)
    return {
        name: [
            remote.options(name=f"predict {name} {file.stem}").remote(tasks[name], store, file, shared, shifts)
            for file in snapshots_in(folder).values()
        ]
        for name, folder in folders.items()
    }
