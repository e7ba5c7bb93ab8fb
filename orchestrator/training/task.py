"""One training, wherever it runs: a Tune trial, the final actor or a plain process do exactly this."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.settings import CHANNELS
from features.taxonomy import Taxonomy
from models.averaging import label_batch
from models.batches import Clips, Labeller
from models.families import FAMILIES
from models.fit import Epoch, Fit, Snapshot, alone, to_channels_last
from models.heads import combine
from models.prediction import Predictions
from models.recipe import AUGMENTATIONS, LOSSES, OPTIMISERS, Recipe
from models.scene_model import SceneModel
from models.seeding import seeded
from models.specs import Spec
from models.static import Static
from orchestrator.training.data import Member, Split
from orchestrator.training.inputs import INPUT, tensor
from orchestrator.training.metrics import MeanOver, objective
from orchestrator.training.rows import Metrics, Row
from orchestrator.training.scores import Scores

log = logging.getLogger("stillhouse")
VALIDATE_EVERY = 5  # epochs, for the curves: only cycle ends are judged, and validation takes a tenth of a training


@dataclass(frozen=True)
class Task:
    """What is trained, how, and how it is judged."""

    model: Spec
    recipe: Recipe
    seed: int
    taxonomy: Taxonomy
    decision: str  # "scene" or "combined": what validation judges
    copies: bool = False  # whether it is trained on the extra copies of the training clips too
    ensemble_of: str = "probabilities"  # how teachers' labels are averaged online
    threads: int = 1
    device: str = "cpu"
    mean_over: MeanOver = "clips"  # of the metrics on validation
    validate_every: int = VALIDATE_EVERY  # epochs; cycle ends always


def build(task: Task) -> SceneModel:
    """The model with its initial weights."""
    family: Callable[..., SceneModel] = FAMILIES.implementation(task.model)
    taxonomy = task.taxonomy
    with seeded(task.seed, "initial weights"):
        return family(task.model, channels=CHANNELS, scenes=len(taxonomy.scenes), groups=len(taxonomy.groups))


def entries_of(task: Task) -> list[str]:
    """The implementations "module:Name" that the task's settings choose: their code determines what is trained."""
    recipe = task.recipe
    return [
        FAMILIES.find(task.model.family).implementation,
        LOSSES.find(LOSSES.name_of(recipe.loss)).implementation,
        OPTIMISERS.find(OPTIMISERS.name_of(recipe.optimiser)).implementation,
        *(AUGMENTATIONS.find(name).implementation for name in recipe.augment),
    ]


def placed(task: Task, data: Split, validation: Split) -> tuple[Clips, Static]:
    """The clips to train on, and those to validate on, on the task's device if it has room for them."""
    place = torch.device(task.device)
    clips, static = training_clips(task, data).to(place), validation.features.open().to(place)
    if not clips.static.is_on(place):
        log.info("%s has no room for %d clips: batches are cut from memory", hardware(task.device), len(clips))
    return clips, static


def train(
    task: Task,
    data: Split,
    validation: Split,
    resume: Snapshot | None = None,
    epoch_of: Callable[[Fit], Epoch] = alone,
    placed: Callable[[Task, Split, Split], tuple[Clips, Static]] = placed,
) -> Iterator[tuple[Row, Epoch]]:
    """Train epoch by epoch, yielding each with the row that logs, curves and `reproduce` use.

    `epoch_of` trains the next epoch, and `placed` has the clips on the device: of this training alone, or together with
    others.
    """
    torch.set_num_threads(task.threads)
    started = time.perf_counter()
    clips, static = placed(task, data, validation)
    training = Fit(
        build(task),
        clips,
        static,
        task.recipe,
        INPUT,
        seed=task.seed,
        teacher=labeller(task, data),
        resume=resume,
        device=task.device,
        validate_every=task.validate_every,
    )
    while not training.is_done:
        epoch = epoch_of(training)
        row: Row = {
            "epoch": epoch.number,
            "loss": epoch.loss,
            "learning_rate": epoch.learning_rate,
            **judge(validation, epoch.validation, task),
            "cycle_end": epoch.cycle_end,
            "clips_per_second": epoch.clips_per_second,
            "seconds": time.perf_counter() - started,
            "device": hardware(task.device),
        }
        yield row, epoch


def usable(device: str) -> str:
    """The CPU in the GPU's stead, where torch cannot use that: Ray counts GPUs by their driver alone."""
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def hardware(device: str) -> str:
    """The name of the GPU, or "cpu"."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def judge(validation: Split, predictions: Predictions | None, task: Task) -> Metrics:
    """Metrics on validation; of nothing where everything is trained on, or where this epoch was not validated."""
    if predictions is None or not len(validation.scene):
        return {"accuracy": None, "log_loss": None}
    decided = decide(predictions, task.decision, task.taxonomy)
    return objective(validation.scene, decided, validation.devices, task.mean_over)


def score(validation: Split, task: Task, predictions: Predictions) -> Scores:
    """How each clip of validation was predicted, by the decision that validation judges."""
    return Scores.of(validation.scene, decide(predictions, task.decision, task.taxonomy))


def decide(predictions: Predictions, decision: str, taxonomy: Taxonomy) -> NDArray[np.float32]:
    """Probabilities (clip, scene) of a decision: of the "scene" classifier, or of both "combined"."""
    if decision == "scene" or not taxonomy.groups:
        return predictions.scene.numpy()
    return combine(predictions.scene, predictions.group, torch.tensor(taxonomy.group_of_scene)).numpy()


def labeller(task: Task, data: Split) -> Labeller | None:
    """The ensemble of the teachers that come with the data, which labels batches online; None where none is needed."""
    if not data.teachers or not any(task.recipe.soft_weights):
        return None
    teachers = [[restored(task, member) for member in snapshots] for snapshots in data.teachers]
    return partial(label_batch, teachers, task.ensemble_of, data.temperatures)


def restored(task: Task, member: Member) -> nn.Module:
    """A teacher's snapshot, ready to predict on the task's device."""
    model = build(replace(task, model=member.model))
    model.load_state_dict({name: tensor(value) for name, value in member.weights.items()})
    to_channels_last(model)
    return model.to(task.device).eval()


def training_clips(task: Task, data: Split) -> Clips:
    """The rows of `data` that the task is trained on."""
    return to_clips(data if task.copies else data.without_copies(), task.taxonomy)


def to_clips(split: Split, taxonomy: Taxonomy) -> Clips:
    """A split as tensors on the CPU: scenes and groups one-hot, soft labels as log-scores."""
    scene, group = targets_of(split, taxonomy)
    return Clips(
        static=split.features.open(),
        scene=scene,
        group=group,
        soft_scene=None if split.soft_scene is None else tensor(split.soft_scene),
        soft_group=None if split.soft_group is None else tensor(split.soft_group),
    )


def targets_of(split: Split, taxonomy: Taxonomy) -> tuple[Tensor, Tensor]:
    """Scenes and groups as one-hot rows, float32 (clip, class) each; the features stay where they are."""
    groups = np.array(taxonomy.group_of_scene, np.int64)[split.scene] if taxonomy.groups else None
    scene = one_hot(split.scene, len(taxonomy.scenes))
    return scene, torch.zeros(len(split), 0) if groups is None else one_hot(groups, len(taxonomy.groups))


def one_hot(indices: NDArray[np.int64], width: int) -> Tensor:
    """float32 (clip, width)."""
    return torch.eye(width)[torch.from_numpy(indices.copy())]
