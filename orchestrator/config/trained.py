"""What is trained: the settings of teachers and of the student."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from models.families import FAMILIES
from models.recipe import Recipe
from models.schedule import DOUBLING
from models.specs import MobnetSpec, Spec, TwoPathSpec
from models.table import Entry, Settings, Table
from orchestrator.config.entries import one_of, read_recipe
from orchestrator.config.reading import Strict, nearest


@dataclass(frozen=True)
class StoredSettings(Settings):
    """The teachers' labels of the training clips, predicted once and mixed as a batch is."""

    name: str = "stored"


@dataclass(frozen=True)
class OnlineSettings(Settings):
    """The teachers' labels of every batch as the student sees it (Beyer et al. 2022)."""

    name: str = "online"


@dataclass(frozen=True)
class CrossFittedSettings(Settings):
    """Each clip's labels by teachers that were trained without its location: each teacher once more for each part."""

    name: str = "crossfit"
    parts: int = 3  # of the training locations

    def __post_init__(self) -> None:
        if self.parts < 2:
            raise ValueError(f"crossfit: parts must be at least 2, not {self.parts}")


LABELS = Table(
    "label source",
    {
        "stored": Entry(StoredSettings, "orchestrator.stages.labels:Stored"),
        "crossfit": Entry(CrossFittedSettings, "orchestrator.stages.labels:CrossFitted"),
        "online": Entry(OnlineSettings, "orchestrator.stages.labels:Online"),
    },
)
"""An implementation is an orchestrator/stages/labels.py: LabelSource, made from its settings."""


def require_cycle_ends(name: str, epochs: tuple[int, ...], recipe: Recipe) -> None:
    """Raise ValueError for epochs at which no cycle of the recipe ends: no snapshot is kept there."""
    if not epochs or list(epochs) != sorted(set(epochs) & set(recipe.cycle_ends)):
        raise ValueError(f"{name} {list(epochs)} must be some of the cycle ends {list(recipe.cycle_ends)}, in order")


class TeacherSettings(Strict):
    """One teacher: its network, its recipe, and the snapshots that vote."""

    model: Annotated[Spec, one_of(FAMILIES, "two_path")] = TwoPathSpec()  # its family and sizes
    recipe: Annotated[Recipe, BeforeValidator(read_recipe)] = Recipe()
    copies: bool = False  # train on the extra copies too
    ensemble: tuple[int, ...]  # the cycle ends whose snapshots vote (PAPER 2.3: 254 and 510)

    @model_validator(mode="after")
    def votes_exist(self) -> Self:
        require_cycle_ends("ensemble", self.ensemble, self.recipe)
        return self


class StudentSettings(Strict):
    """The student: its network, its recipe, its soft labels, and the snapshots that are averaged."""

    model: Annotated[Spec, one_of(FAMILIES, "mobnet")] = MobnetSpec()  # its family and sizes
    recipe: Annotated[Recipe, BeforeValidator(read_recipe)] = Recipe(soft_weight=0.5)
    labels: Annotated[Settings, one_of(LABELS, "stored")] = StoredSettings()  # where soft labels come from
    teachers: tuple[str, ...] | None = None  # whose labels; None: all teachers'
    copies: bool = False  # train on the extra copies too
    average: tuple[int, ...] = DOUBLING[-3:]  # the cycle ends whose weights are averaged (PAPER 2.6)
    weights: tuple[float, ...] | None = None  # of the average, chosen by an earlier run; None: tried on validation
    moving: bool = False  # whether `weights` are of the cycles' moving averages
    # Divide the finished student's logits by a temperature of each classifier that is fitted on validation: it costs no
    # byte, and changes how sure it is, not what it decides.
    calibrate: bool = False

    @model_validator(mode="after")
    def averages_exist(self) -> Self:
        """Raises ValueError where a snapshot to average is no cycle end, or the weights do not fit."""
        require_cycle_ends("average", self.average, self.recipe)
        if self.weights is not None:
            positive = all(0 < weight < math.inf for weight in self.weights)
            if len(self.weights) != len(self.average) or not positive:
                raise ValueError(f"weights must be positive, one for each of average {list(self.average)}")
        if self.moving and (self.weights is None or not self.recipe.moving_average):
            raise ValueError("moving is of weights, and of a recipe with moving_average")
        return self


def apply_settings(student: StudentSettings, settings: dict[str, Any]) -> StudentSettings:
    """Replace settings such as "recipe.temperature" or "model.rows". Raises ValueError for one that cannot be."""
    tree = student.model_dump()  # so that values are checked as those of a file are
    for key, value in settings.items():
        *sections, name = key.split(".")
        section: Any = tree
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not sections or not isinstance(section, dict) or name not in section:
            raise ValueError(f"search.space has no setting '{key}'{nearest(key, list(paths_in(tree)))}")
        section[name] = value
    return StudentSettings.model_validate(tree)


def value_of(student: StudentSettings, setting: str) -> Any:
    """The student's own value of a setting "recipe.x" or "model.x", as a file has it."""
    place: Any = student.model_dump()
    for part in setting.split("."):
        place = place[part]
    return place


def paths_in(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings in the sections of a tree."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from paths_in(value, f"{prefix}{name}.")
        elif prefix:
            yield f"{prefix}{name}"


def type_of(student: StudentSettings, setting: str) -> Any:
    """The type that the student's setting "recipe.x" or "model.x" is declared with."""
    *sections, name = setting.split(".")
    place: Any = student
    for part in sections:
        place = place[part] if isinstance(place, Mapping) else getattr(place, part)
    return next(field.type for field in dataclasses.fields(place) if field.name == name)
