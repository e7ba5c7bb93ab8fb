"""Soft labels: the teachers' snapshots predict the training clips; their ensemble is averaged in one place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from features.cuts import rank
from models.averaging import ensemble
from models.calibration import temperatures_of
from models.prediction import Predictions
from models.seeding import derive
from models.table import Settings
from orchestrator.code import PROJECT
from orchestrator.config.experiment import Experiment
from orchestrator.config.keys import key_of
from orchestrator.config.trained import LABELS, CrossFittedSettings
from orchestrator.errors import UserError
from orchestrator.monitor.view import Bar
from orchestrator.stages.context import Context, Data, announce_restart, basis, published, record
from orchestrator.stages.snapshots import predict_teachers
from orchestrator.stages.teachers import task_of
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_arrays, save_tensors, snapshots_in
from orchestrator.storage.work import Work, working
from orchestrator.training.data import Features, Member
from orchestrator.training.task import targets_of

LABELS_FILE = "labels.safetensors"
type Teachers = dict[str, dict[str, Path]]
"""The teachers' folders by cut and name."""


@dataclass(frozen=True)
class Labelling:
    """Which training clips the teachers of a cut label."""

    cut: str
    rows: NDArray[np.bool_]


class LabelSource(Protocol):
    """Made from its settings: where soft labels come from."""

    def cuts(self, config: Experiment, data: Data) -> list[Data]:
        """What teachers are to be trained on to label a cut of the recordings, beside that cut itself."""
        ...

    def run(self, context: Context, data: Data, teachers: Teachers) -> Path:
        """Make the artifact of soft labels where it is not finished; `data` are what students are trained on."""
        ...

    def attach(self, config: Experiment, data: Data, folder: Path, teachers: Teachers) -> Data:
        """The students' data with the soft labels of the artifact in `folder`, or with the teachers themselves."""
        ...


class Stored:
    """Each training clip's labels by the teachers' ensemble, predicted once."""

    def __init__(self, settings: Settings) -> None:
        """Like every entry of the table; these have no settings."""

    def cuts(self, config: Experiment, data: Data) -> list[Data]:
        return []

    def run(self, context: Context, data: Data, teachers: Teachers) -> Path:
        """Make the artifact of soft labels, or find it finished."""
        config, store = context.config, context.store
        key = key_for(config, data, teachers, self.labelling(config, data))
        folder = store.finished("labels", key)
        if folder is not None:
            context.view.reused("labels", "soft labels of the ensemble", [folder])
            return folder
        announce_restart(context, "labels", key)
        with context.view.stage("labels") as bar, working(store, "labels", key, bar.wait, bar.so_far) as work:
            if store.finished("labels", key) is None:  # another run may just have finished it
                make(context, data, teachers, self.labelling(config, data), key, work, bar)
            folder = published(store, "labels", key)
            bar.made_in(folder)
            work.discard()
        return folder

    def labelling(self, config: Experiment, data: Data) -> list[Labelling]:
        """The teachers of the same cut label all of it."""
        return [Labelling(data.cut, np.ones(len(data.train), bool))]

    def attach(self, config: Experiment, data: Data, folder: Path, teachers: Teachers) -> Data:
        return with_scores(data, folder)


class CrossFitted(Stored):
    """Each training clip's labels by teachers that were trained without its location."""

    def __init__(self, settings: CrossFittedSettings) -> None:
        self.settings = settings

    def parts(self, config: Experiment, data: Data) -> list[list[str]]:
        """The training locations in parts, of each scene about as many in each."""
        places = dict(sorted(zip(data.train.locations, data.train.scene.tolist(), strict=True)))
        seed = derive(config.seed, "parts")
        order = sorted(places, key=lambda name: (places[name], rank(name, seed)))
        return [order[part :: self.settings.parts] for part in range(self.settings.parts)]

    def cuts(self, config: Experiment, data: Data) -> list[Data]:
        """Raises UserError where teachers would have to do without a scene."""
        cuts = [data.without(part, f"part{number}") for number, part in enumerate(self.parts(config, data), 1)]
        for cut in cuts:
            absent = set(data.train.scene.tolist()) - set(cut.train.scene.tolist())
            if absent:
                scene = config.corpus.taxonomy.scenes[min(absent)]
                raise UserError(
                    f"student.labels.parts is {self.settings.parts}: without one part no training clip is of scene "
                    f"'{scene}', which has too few locations"
                )
        return cuts

    def labelling(self, config: Experiment, data: Data) -> list[Labelling]:
        locations = np.array(data.train.locations)
        return [
            Labelling(f"{data.cut}part{number}", np.isin(locations, part))
            for number, part in enumerate(self.parts(config, data), 1)
        ]


class Online(Stored):
    """The teachers travel with the data and label every batch as the student sees it."""

    def attach(self, config: Experiment, data: Data, folder: Path, teachers: Teachers) -> Data:
        """The students' data with the teachers' snapshots, which label every batch."""
        return with_teachers(config, with_scores(data, folder), teachers[data.cut])


def with_scores(data: Data, folder: Path) -> Data:
    """With the stored labels of an artifact, and the temperatures that they are at."""
    stored = load_arrays(folder / LABELS_FILE)
    scene, group = stored["temperatures"].tolist()
    train = data.train.with_soft(stored["scene"], stored["group"])
    return replace(data, train=replace(train, temperatures=(scene, group)))


def with_teachers(config: Experiment, data: Data, teachers: dict[str, Path]) -> Data:
    """With the teachers' snapshots."""
    members = (
        tuple(Member(config.teachers[name].model, load_arrays(file)) for file in snapshots_in(artifact).values())
        for name, artifact in teachers.items()
    )
    return replace(data, train=replace(data.train, teachers=tuple(members)))


def attached_by(config: Experiment) -> list[str | Callable[..., object]]:
    """The code that gives students their labels, for the students' keys: ours, and a label source of a user's own."""
    if not config.teachers:
        return []
    source = LABELS.find(LABELS.name_of(config.student.labels)).implementation
    return [with_scores, with_teachers, *([] if source.startswith(PROJECT) else [source])]


def cuts_of(config: Experiment, cuts: Sequence[Data]) -> list[Data]:
    """All that teachers are trained on: what students are trained on, and what the label source wants beside that."""
    if not config.teachers:
        return list(cuts)
    return [cut for data in cuts for cut in (data, *source_of(config).cuts(config, data))]


def run(context: Context, data: Data, teachers: Teachers) -> tuple[Data, Path | None]:
    """The students' data with soft labels, and the artifact that holds them; without teachers there are none."""
    config = context.config
    data = data.for_student(config.student.copies)
    if not teachers.get(data.cut):
        return data, None
    source = source_of(config)
    folder = source.run(context, data, teachers)
    return source.attach(config, data, folder, teachers), folder


def source_of(config: Experiment) -> LabelSource:
    """The label source that student.labels names."""
    return LABELS.implementation(config.student.labels)(config.student.labels)


def key_for(config: Experiment, data: Data, teachers: Teachers, labelling: Sequence[Labelling]) -> str:
    """The soft labels' key: the teachers and rows that label, and the clips."""
    used = {label.cut for label in labelling} | {data.cut}
    keys = [[cut, name, folder.name] for cut in sorted(used) for name, folder in sorted(teachers[cut].items())]
    rows = [[label.cut, label.rows.nonzero()[0].tolist()] for label in labelling] if len(labelling) > 1 else []
    return key_of(basis(make), config.ensemble_of, config.calibrate_teachers, keys, rows, data.key)


def predict_ensemble(config: Experiment, store: Store, teachers: dict[str, Path], features: Features) -> Predictions:
    """The teachers' ensemble of whole clips."""
    tasks = {name: task_of(config, name) for name in teachers}
    members = predict_teachers(tasks, config.resources, store, teachers, features)
    return ensemble([ensemble(ray.get(rows), config.ensemble_of) for rows in members.values()], config.ensemble_of)


def make(
    context: Context, data: Data, teachers: Teachers, labelling: Sequence[Labelling], key: str, work: Work, bar: Bar
) -> None:
    """Predict with every teacher, average, publish."""
    config, store, taxonomy = context.config, context.store, context.config.corpus.taxonomy
    clips = len(data.train)
    together = Predictions(torch.zeros(clips, len(taxonomy.scenes)), torch.zeros(clips, len(taxonomy.groups)))
    for label in labelling:
        part = predict_ensemble(config, store, teachers[label.cut], data.train.features.take(label.rows))
        rows = torch.from_numpy(label.rows)
        together.scene[rows], together.group[rows] = part.scene, part.group
    temperatures = config.calibrate_teachers or (1.0, 1.0)
    if temperatures is True:
        known = predict_ensemble(config, store, teachers[data.cut], data.validation.features)
        temperatures = temperatures_of(known, *targets_of(data.validation, taxonomy))
    scenes, _ = targets_of(data.train, taxonomy)
    hits = (together.scene.argmax(1) == scenes.argmax(1)).float().mean().item()
    at = f", at temperatures {temperatures[0]:.2f} and {temperatures[1]:.2f}" if config.calibrate_teachers else ""
    bar.about(f"soft labels of {len(data.train.scene)} clips, {hits:.1%} of them as labelled{at}")
    with store.publish("labels", key) as target:
        scores = {"scene": together.scene.log() / temperatures[0], "group": together.group.log() / temperatures[1]}
        save_tensors(target / LABELS_FILE, {**scores, "temperatures": torch.tensor(temperatures)})
        record(target, work.seconds, teachers=sorted(teachers[data.cut]))
