"""Soft labels: the teachers' snapshots predict the training clips; their ensemble is averaged in one place."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from models.averaging import ensemble
from models.batches import Clips
from models.calibration import fit_temperature
from models.prediction import Predictions, predict
from orchestrator.config.experiment import LABELS, Experiment, OnlineSettings, StoredSettings
from orchestrator.config.keys import key_of
from orchestrator.monitor.view import Bar
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.teachers import task_of
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_arrays, save_tensors, snapshots_in
from orchestrator.storage.work import Work, working
from orchestrator.training.data import Member
from orchestrator.training.inputs import INPUT, tensor
from orchestrator.training.task import Task, restored, to_clips


def predict_snapshot(
    task: Task, store: Store, file: Path, static: NDArray[np.float16], shifts: tuple[int, ...] = (0,)
) -> Predictions:
    """One snapshot's predictions of whole clips, static (clip, mel, frame)."""
    store.pull(file)
    torch.set_num_threads(task.threads)
    task = replace(task, device="cuda" if ray.get_gpu_ids() else "cpu")
    model = restored(task, Member(task.model, load_arrays(file)))
    return predict(model, tensor(static).to(task.device), INPUT, shifts)


def predict_teachers(
    config: Experiment,
    store: Store,
    folders: dict[str, Path],
    static: NDArray[np.float16],
    shifts: tuple[int, ...] = (0,),
) -> dict[str, list[ray.ObjectRef]]:
    """Start predicting with every snapshot of every teacher, as Ray tasks; references to Predictions, by teacher."""
    resources = config.resources
    remote: Any = ray.remote(num_cpus=resources.cpus_per_trial, num_gpus=resources.gpus_per_trial)(predict_snapshot)
    shared = ray.put(static)
    return {
        name: [
            remote.options(name=f"predict {name} {file.stem}").remote(
                task_of(config, name), store, file, shared, shifts
            )
            for file in snapshots_in(folder).values()
        ]
        for name, folder in folders.items()
    }


class LabelSource(Protocol):
    """Made from its settings: where soft labels come from."""

    def run(self, context: Context, data: Data, teachers: dict[str, Path]) -> Path:
        """Make the artifact of soft labels where it is not finished; `data` are what students are trained on."""
        ...

    def attach(self, config: Experiment, data: Data, folder: Path, teachers: dict[str, Path]) -> Data:
        """The students' data with the soft labels of the artifact in `folder`, or with the teachers themselves."""
        ...


class Stored:
    """Each training clip's labels by the teachers' ensemble, predicted once."""

    def __init__(self, settings: StoredSettings | OnlineSettings) -> None:
        self.settings = settings

    def run(self, context: Context, data: Data, teachers: dict[str, Path]) -> Path:
        """Make the artifact of soft labels, or find it finished."""
        config, store = context.config, context.store
        key = key_for(config, data, [folder.name for folder in teachers.values()])
        folder = store.finished("labels", key)
        if folder is not None:
            context.view.reused("labels", "soft labels of the ensemble", [folder])
            return folder
        announce_restart(context, "labels", "labels", key)
        with context.view.stage("labels") as bar, working(store, "labels", key, bar.wait, bar.so_far) as work:
            if store.finished("labels", key) is None:  # another run may just have finished it
                make(context, data, teachers, key, work, bar)
            folder = published(store, "labels", key)
            bar.made_in(folder)
            work.discard()
        return folder

    def attach(self, config: Experiment, data: Data, folder: Path, teachers: dict[str, Path]) -> Data:
        scores = load_arrays(folder / "labels.safetensors")
        return replace(data, train=data.train.with_soft(scores["scene"], scores["group"]))


class Online(Stored):
    """The teachers travel with the data and label every batch as the student sees it."""

    def attach(self, config: Experiment, data: Data, folder: Path, teachers: dict[str, Path]) -> Data:
        """The students' data with the teachers' snapshots, which label every batch."""
        data = super().attach(config, data, folder, teachers)
        members = (
            tuple(Member(config.teachers[name].model, load_arrays(file)) for file in snapshots_in(artifact).values())
            for name, artifact in teachers.items()
        )
        scene, group = load_arrays(folder / "labels.safetensors")["temperatures"].tolist()
        return replace(data, train=replace(data.train, teachers=tuple(members), temperatures=(scene, group)))


def run(context: Context, data: Data, teachers: dict[str, Path]) -> tuple[Data, Path | None]:
    """The students' data with soft labels, and the artifact that holds them; without teachers there are none."""
    config = context.config
    data = data.for_student(config.student.copies)
    if not teachers:
        return data, None
    source = source_of(config)
    folder = source.run(context, data, teachers)
    return source.attach(config, data, folder, teachers), folder


def source_of(config: Experiment) -> LabelSource:
    return LABELS.implementation(config.student.labels)(config.student.labels)


def key_for(config: Experiment, data: Data, teachers: Sequence[str]) -> str:
    """`teachers` are the keys of those that label."""
    return key_of(basis(make), config.ensemble_of, config.calibrate_teachers, sorted(teachers), data.key)


def predict_ensemble(
    config: Experiment, store: Store, teachers: dict[str, Path], static: NDArray[np.float16]
) -> Predictions:
    """The teachers' ensemble of whole clips."""
    members = predict_teachers(config, store, teachers, static)
    return ensemble([ensemble(ray.get(rows), config.ensemble_of) for rows in members.values()], config.ensemble_of)


def calibrated(predictions: Predictions, clips: Clips) -> tuple[float, float]:
    """The temperature of each classifier; 1 where there are no groups."""
    scene = fit_temperature(predictions.scene.log(), clips.scene.argmax(1))
    group = fit_temperature(predictions.group.log(), clips.group.argmax(1)) if clips.group.shape[1] else 1.0
    return scene, group


def make(context: Context, data: Data, teachers: dict[str, Path], key: str, work: Work, bar: Bar) -> None:
    """Predict with every teacher, average, publish."""
    config, store = context.config, context.store
    together = predict_ensemble(config, store, teachers, data.train.static)
    temperatures = (1.0, 1.0)
    if config.calibrate_teachers:
        known = predict_ensemble(config, store, teachers, data.validation.static)
        temperatures = calibrated(known, to_clips(data.validation, config.corpus.taxonomy))
    rows = to_clips(data.train, config.corpus.taxonomy)
    hits = (together.scene.argmax(1) == rows.scene.argmax(1)).float().mean().item()
    at = f", at temperatures {temperatures[0]:.2f} and {temperatures[1]:.2f}" if config.calibrate_teachers else ""
    bar.about(f"soft labels of {len(data.train.scene)} clips, {hits:.1%} of them as labelled{at}")
    with store.publish("labels", key) as target:
        scores = {"scene": together.scene.log() / temperatures[0], "group": together.group.log() / temperatures[1]}
        save_tensors(target / "labels.safetensors", {**scores, "temperatures": torch.tensor(temperatures)})
        record(target, work.seconds, teachers=sorted(teachers))
