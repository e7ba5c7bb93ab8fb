"""One experiment: every setting of a run, validated once. `loading.py` reads it from YAML."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from features.settings import BY_RESPONSE, CONTEXT, Copies, FrontEnd, Kind, Spectrum
from models.families import FAMILIES
from models.recipe import Recipe
from models.schedule import DOUBLING
from models.specs import MobnetSpec, Spec, TwoPathSpec
from models.table import Entry, Settings, Table
from orchestrator.config.corpus import CorpusSettings
from orchestrator.config.entries import one_of, read_recipe, some_of
from orchestrator.config.reading import Strict, explain, nearest
from orchestrator.config.search import SearchSettings
from orchestrator.config.space import Choices, Range


@dataclass(frozen=True)
class StoredSettings(Settings):
    """The teachers' labels of the training clips, predicted once and mixed as a batch is."""

    name: str = "stored"


@dataclass(frozen=True)
class OnlineSettings(Settings):
    """The teachers' labels of every batch as the student sees it (Beyer et al. 2022)."""

    name: str = "online"


LABELS = Table(
    "label source",
    {
        "stored": Entry(StoredSettings, "orchestrator.stages.labels:Stored"),
        "online": Entry(OnlineSettings, "orchestrator.stages.labels:Online"),
    },
)
"""An implementation is an orchestrator/stages/labels.py: LabelSource, made from its settings."""


@dataclass(frozen=True)
class FormatSettings(Settings):
    """An exported file."""

    name: str
    largest_difference: float = 1e-3  # from torch, in probability: beyond it the run fails


FORMATS = Table(
    "export format",
    {
        "onnx": Entry(FormatSettings, "orchestrator.export.onnx:Onnx"),
        "tflite": Entry(FormatSettings, "orchestrator.export.tflite:Tflite"),
    },
)
"""An implementation is an orchestrator/export/formats.py: Format, made from its settings."""


def require_cycle_ends(name: str, epochs: tuple[int, ...], recipe: Recipe) -> None:
    if not epochs or list(epochs) != sorted(set(epochs) & set(recipe.cycle_ends)):
        raise ValueError(f"{name} {list(epochs)} must be some of the cycle ends {list(recipe.cycle_ends)}, in order")


class TeacherSettings(Strict):
    """One teacher: its network, its recipe, and the snapshots that vote."""

    model: Annotated[Spec, one_of(FAMILIES, "two_path")] = TwoPathSpec()
    recipe: Annotated[Recipe, BeforeValidator(read_recipe)] = Recipe()
    copies: bool = False  # train on the extra copies too
    ensemble: tuple[int, ...]  # the cycle ends whose snapshots vote (PAPER 2.3: 254 and 510)

    @model_validator(mode="after")
    def votes_exist(self) -> Self:
        require_cycle_ends("ensemble", self.ensemble, self.recipe)
        return self


class StudentSettings(Strict):
    """The student: its network, its recipe, its soft labels, and the snapshots that are averaged."""

    model: Annotated[Spec, one_of(FAMILIES, "mobnet")] = MobnetSpec()
    recipe: Annotated[Recipe, BeforeValidator(read_recipe)] = Recipe(soft_weight=0.5)
    labels: Annotated[Settings, one_of(LABELS, "stored")] = StoredSettings()  # where soft labels come from
    teachers: tuple[str, ...] | None = None  # whose labels; None: all teachers'
    copies: bool = False  # train on the extra copies too
    average: tuple[int, ...] = DOUBLING[-3:]  # the cycle ends whose weights are averaged (PAPER 2.6)
    weights: tuple[float, ...] | None = None  # of the average, chosen by an earlier run; None: tried on validation

    @model_validator(mode="after")
    def averages_exist(self) -> Self:
        """Raises ValueError where a snapshot to average is no cycle end, or the weights do not fit."""
        require_cycle_ends("average", self.average, self.recipe)
        if self.weights is not None:
            positive = all(0 < weight < math.inf for weight in self.weights)
            if len(self.weights) != len(self.average) or not positive:
                raise ValueError(f"weights must be positive, one for each of average {list(self.average)}")
        return self


MeanOver = Literal["clips", "devices"]


class ValidationSettings(Strict):
    """What validation selects for."""

    # "devices": metrics are means over the recording devices, so that a rare one counts as much as the usual one; None:
    # so where the corpus names devices.
    mean_over: MeanOver | None = None
    leave_out_devices: tuple[str, ...] = ()  # not trained on, so that validation selects for devices never heard


class FinalSettings(Strict):
    """The final stage."""

    seeds: Annotated[int, Field(ge=1)] = 1  # students of other initial weights; the best on validation is exported


class Resources(Strict):
    """Of one trial. More trials beat more threads a trial (docs/lab-notes.md)."""

    cpus_per_trial: Annotated[int, Field(ge=1)] = 1
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0.0


class Experiment(Strict):
    """Everything that determines a run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    seed: Annotated[int, Field(ge=0)] = 0
    corpus: CorpusSettings
    features: FrontEnd = FrontEnd()
    spectrum: Spectrum = Spectrum()
    copies: Copies = Copies()
    teachers: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], TeacherSettings] = Field({})
    ensemble_of: Literal["probabilities", "logits"] = "probabilities"  # what the teachers' average is taken of
    # Divide the teachers' scores by a temperature of each classifier that is fitted on validation: their head caps how
    # sure they can be (docs/lab-notes.md).
    calibrate_teachers: bool = False
    student: StudentSettings = StudentSettings()
    validation: ValidationSettings = ValidationSettings()
    search: SearchSettings | None  # None: the student's recipe as it stands
    final: FinalSettings = FinalSettings()
    plain: bool = True  # train the final student without teachers too, to compare
    decision: Literal["scene", "combined"] = "combined"  # PAPER systems 1, 2, 4 / system 3
    judged_by: Literal["scene", "combined"] | None = None  # the decision that validation judges; None: the same
    select_by: Literal["log_loss", "accuracy"] = "log_loss"  # on validation: trials, averages
    # Test-time augmentation: finished models average their predictions over these circular shifts, in frames.
    test_shifts: tuple[int, ...] = Field((0,), min_length=1)
    refit_of: str | None = None  # the run whose choices this one takes (`stillhouse refit`)
    export: Annotated[dict[str, Settings], some_of(FORMATS)] = Field({"onnx": {}, "tflite": {}}, validate_default=True)
    resources: Resources = Resources()

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """Raises ValueError where two settings contradict each other."""
        room = self.features.frames - 2 * CONTEXT
        trained = {f"teachers.{name}": teacher for name, teacher in self.teachers.items()} | {"student": self.student}
        for where, settings in trained.items():
            if settings.recipe.crop_frames > room:
                raise ValueError(
                    f"{where}.recipe.crop_frames is {settings.recipe.crop_frames}, but a clip of "
                    f"{self.features.clip_seconds:g} s has {room} frames with deltas"
                )
            slices = settings.model.mel_slices
            if self.features.n_mels % slices:
                raise ValueError(f"{where}.model cuts {self.features.n_mels} mel bins into {slices}: choose a divisor")
            if settings.copies and not self.copies.kinds:
                raise ValueError(f"{where}.copies is true, but copies.kinds names none")
        if self.copies.kinds and not any(settings.copies for settings in trained.values()):
            raise ValueError(
                "no teacher and no student trains on copies.kinds: set student.copies or teachers.NAME.copies to true"
            )
        if self.spectrum.correct and set(self.kinds_of_copies) & set(BY_RESPONSE):
            raise ValueError("spectrum.correct takes out what copies of kinds spectrum and dir put in; choose one")
        unknown = [name for name in self.student.teachers or () if name not in self.teachers]
        if unknown or self.student.teachers == ():
            raise ValueError(f"student.teachers {list(self.student.teachers or ())} must be of {list(self.teachers)}")
        if not self.teachers and any(self.student.recipe.soft_weights):
            raise ValueError("there are no teachers: set student.recipe.soft_weight to 0, or name teachers")
        if self.corpus.groups is None and self.judged == "combined":
            raise ValueError("without corpus.groups nothing can be combined: set decision to scene")
        if self.calibrate_teachers and "validation" in self.corpus.fit_on:
            raise ValueError(
                "corpus.fit_on leaves no validation split to calibrate on: set calibrate_teachers to false"
            )
        if "tflite" not in self.export:
            raise ValueError("export must have tflite, the file that a run is about")
        if "test" in self.corpus.fit_on and self.refit_of is None:
            raise ValueError("corpus.fit_on leaves no clip to measure on: use `stillhouse refit RUN --total`")
        if "validation" in self.corpus.fit_on and (self.search is not None or self.student.weights is None):
            raise ValueError(
                "corpus.fit_on leaves no validation split to choose by: use `stillhouse refit RUN`, or set search to "
                "null and student.weights"
            )
        if self.search is not None:
            self.check_search(self.search)
        return self

    def check_search(self, search: SearchSettings) -> None:
        """Raises ValueError where the search could propose a value that the student refuses."""
        for key, domain in search.space.items():
            values = domain.choices if isinstance(domain, Choices) else (domain.low, domain.high)
            for value in values:
                try:
                    apply_settings(self.student, {key: value})
                except ValidationError as error:
                    raise ValueError(f"search.space: {explain(error, StudentSettings)}") from None
            if isinstance(domain, Range) and type_of(self.student, key) not in (int, float):
                raise ValueError(f"search.space.{key} is no number: give choices")
        self.search_recipe({})
        if not self.teachers and "recipe.soft_weight" in search.space:
            raise ValueError("there are no teachers: leave recipe.soft_weight out of search.space")

    @property
    def labelling(self) -> dict[str, TeacherSettings]:
        """The teachers that label; no others are trained."""
        return {name: self.teachers[name] for name in self.student.teachers or self.teachers}

    @property
    def judged(self) -> str:
        """The decision that trials and averages are judged by on validation."""
        return self.judged_by or self.decision

    @property
    def mean_over(self) -> MeanOver:
        """What metrics on validation are means over; a corpus that names no device has one, which is all clips."""
        return self.validation.mean_over or "devices"

    @property
    def kinds_of_copies(self) -> tuple[Kind, ...]:
        """The kinds of extra copies that a teacher or the student is trained on."""
        used = self.student.copies or any(teacher.copies for teacher in self.labelling.values())
        return self.copies.kinds if used else ()

    def search_recipe(self, settings: dict[str, Any]) -> StudentSettings:
        """The student of one trial: `settings` on top, trained on the search's schedule."""
        assert self.search is not None
        ends = self.search.cycle_ends
        student = self.student.model_copy(update={"average": ends[-1:], "weights": None})
        return apply_settings(student, settings | {"recipe.cycle_ends": ends})


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


def to_yaml(config: Experiment) -> str:
    """The resolved config, every default written out; `load` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
