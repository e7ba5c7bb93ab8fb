"""One experiment: every setting of a run, validated once. `loading.py` reads it from YAML."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from features.corpus import SPLITS
from features.generated import CorpusSize
from features.settings import BY_RESPONSE, CONTEXT, Copies, FrontEnd, Kind, Spectrum
from features.taxonomy import TAU_GROUPS, Taxonomy
from models.recipe import Recipe
from models.schedule import DOUBLING
from models.specs import StudentSpec, TeacherSpec
from orchestrator.config.reading import Strict, explain, nearest, read_yaml
from orchestrator.config.space import Choices, Range, SearchSettings


def load_groups(value: object) -> object:
    """ "tau", the path of a YAML file, or the mapping {group: [scene, ...]} itself."""
    if value == "tau":
        return TAU_GROUPS
    if isinstance(value, str):
        return read_yaml(Path(value))
    return value


class CorpusSettings(Strict):
    """Where the recordings are and how they are labelled."""

    layout: Literal["tau", "manifest", "folders"]
    root: Path
    groups: Annotated[dict[str, tuple[str, ...]], BeforeValidator(load_groups)] = Field("tau", validate_default=True)
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15  # of each scene's train clips, by location
    manifest: str = "manifest.csv"  # layout "manifest": relative to root
    pattern: str = r"(?P<split>[^-]+)-(?P<location>[^-]+)-"  # layout "folders": of file names
    splits: dict[str, tuple[str, ...]] = Field({"train": ("train",), "test": ("test",)})  # layout "folders"
    generate: CorpusSize | None = None  # make a corpus of this size at root if there is none
    # The splits that models are trained on. With more than "train" nothing is left to choose by (`stillhouse refit`).
    fit_on: tuple[Literal["train", "validation", "test"], ...] = ("train",)

    @field_validator("fit_on")
    @classmethod
    def fits_on_one_more_after_another(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if splits not in (SPLITS[:1], SPLITS[:2], SPLITS):
            raise ValueError(f"must be [train], [train, validation] or [train, validation, test], not {list(splits)}")
        return splits

    @field_validator("pattern")
    @classmethod
    def pattern_has_a_split(cls, pattern: str) -> str:
        try:
            known = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "split" not in known:
            raise ValueError("needs a group (?P<split>...)")
        return pattern

    @model_validator(mode="after")
    def groups_are_a_taxonomy(self) -> Self:
        Taxonomy.from_groups(self.groups)
        return self

    @property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.from_groups(self.groups)


def require_cycle_ends(name: str, epochs: tuple[int, ...], recipe: Recipe) -> None:
    if not epochs or list(epochs) != sorted(set(epochs) & set(recipe.cycle_ends)):
        raise ValueError(f"{name} {list(epochs)} must be some of the cycle ends {list(recipe.cycle_ends)}, in order")


class TeacherSettings(Strict):
    model: TeacherSpec = TeacherSpec()
    recipe: Recipe = Recipe()
    copies: bool = False  # train on the extra copies too
    ensemble: tuple[int, ...]  # the cycle ends whose snapshots vote (PAPER 2.3: 254 and 510)

    @model_validator(mode="after")
    def votes_exist(self) -> Self:
        require_cycle_ends("ensemble", self.ensemble, self.recipe)
        return self


class StudentSettings(Strict):
    model: StudentSpec = StudentSpec()
    recipe: Recipe = Recipe(soft_weight=0.5)
    # The teachers' labels: of the training clips, once, mixed as a batch is; or of every batch as the student sees it.
    labels: Literal["stored", "online"] = "stored"
    teachers: tuple[str, ...] | None = None  # whose labels; None: all teachers'
    copies: bool = False  # train on the extra copies too
    average: tuple[int, ...] = DOUBLING[-3:]  # the cycle ends whose weights are averaged (PAPER 2.6)
    weights: tuple[float, ...] | None = None  # of the average, chosen by an earlier run; None: tried on validation

    @model_validator(mode="after")
    def averages_exist(self) -> Self:
        require_cycle_ends("average", self.average, self.recipe)
        if self.weights is not None:
            positive = all(0 < weight < math.inf for weight in self.weights)
            if len(self.weights) != len(self.average) or not positive:
                raise ValueError(f"weights must be positive, one for each of average {list(self.average)}")
        return self


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
    teachers: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], TeacherSettings] = Field(min_length=1)
    ensemble_of: Literal["probabilities", "logits"] = "probabilities"  # what the teachers' average is taken of
    student: StudentSettings = StudentSettings()
    search: SearchSettings | None  # None: the student's recipe as it stands
    plain: bool = True  # train the final student without teachers too, to compare
    decision: Literal["scene", "combined"] = "combined"  # PAPER systems 1, 2, 4 / system 3
    judged_by: Literal["scene", "combined"] | None = None  # the decision that validation judges; None: the same
    select_by: Literal["log_loss", "accuracy"] = "log_loss"  # on validation: trials, averages
    # Finished models say the mean of what they say of the clip shifted by so many frames, in a circle.
    test_shifts: tuple[int, ...] = Field((0,), min_length=1)
    refit_of: str | None = None  # the run whose choices this one takes (`stillhouse refit`)
    resources: Resources = Resources()

    @model_validator(mode="after")
    def consistent(self) -> Self:
        room = self.features.frames - 2 * CONTEXT
        trained = {f"teachers.{name}": teacher for name, teacher in self.teachers.items()} | {"student": self.student}
        for where, settings in trained.items():
            if settings.recipe.crop_frames > room:
                raise ValueError(
                    f"{where}.recipe.crop_frames is {settings.recipe.crop_frames}, but a clip of "
                    f"{self.features.clip_seconds:g} s has {room} frames with deltas"
                )
            slices = settings.model.paths if isinstance(settings, TeacherSettings) else settings.model.branches
            if self.features.n_mels % slices:
                raise ValueError(f"{where}.model cuts {self.features.n_mels} mel bins into {slices}: choose a divisor")
            if settings.copies and not self.copies.kinds:
                raise ValueError(f"{where}.copies is true, but copies.kinds names none")
        if self.copies.kinds and not any(settings.copies for settings in trained.values()):
            raise ValueError("copies.kinds would be made for nobody: set copies of a teacher or of the student")
        if self.spectrum.correct and set(self.kinds_of_copies) & set(BY_RESPONSE):
            raise ValueError("spectrum.correct takes out what copies of kinds spectrum and dir put in; choose one")
        unknown = [name for name in self.student.teachers or () if name not in self.teachers]
        if unknown or self.student.teachers == ():
            raise ValueError(f"student.teachers {list(self.student.teachers or ())} must be of {list(self.teachers)}")
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
        for key, domain in search.space.items():
            values = domain.choices if isinstance(domain, Choices) else (domain.low, domain.high)
            for value in values:
                try:
                    apply_settings(self.student, {key: value})
                except ValidationError as error:
                    raise ValueError(f"search.space: {explain(error, StudentSettings)}") from None
            if isinstance(domain, Range) and type_of(key) not in (int, float):
                raise ValueError(f"search.space.{key} is no number: give choices")
        self.search_recipe({})
        if search.grace_cycles > len(search.cycle_ends):
            raise ValueError(f"search.grace_cycles is {search.grace_cycles}; there are {len(search.cycle_ends)} cycles")

    @property
    def labelling(self) -> dict[str, TeacherSettings]:
        """The teachers that label; no others are trained."""
        return {name: self.teachers[name] for name in self.student.teachers or self.teachers}

    @property
    def judged(self) -> str:
        """The decision that trials and averages are judged by on validation."""
        return self.judged_by or self.decision

    @property
    def kinds_of_copies(self) -> tuple[Kind, ...]:
        """The extra copies that somebody is trained on."""
        used = self.student.copies or any(teacher.copies for teacher in self.labelling.values())
        return self.copies.kinds if used else ()

    def search_recipe(self, settings: dict[str, Any]) -> StudentSettings:
        """The student of one trial: `settings` on top, trained on the search's schedule."""
        assert self.search is not None
        ends = self.search.cycle_ends
        student = self.student.model_copy(update={"average": ends[-1:], "weights": None})
        return apply_settings(student, settings | {"recipe.cycle_ends": ends})


def apply_settings(student: StudentSettings, settings: dict[str, Any]) -> StudentSettings:
    """Replace fields named "recipe.x" or "model.x". Raises ValueError for a name or value that cannot be."""
    changes: dict[str, dict[str, Any]] = {"recipe": {}, "model": {}}
    for key, value in settings.items():
        part, _, name = key.partition(".")
        known = [field.name for field in dataclasses.fields(getattr(student, part))] if part in changes else []
        if name not in known:
            options = [
                f"{part}.{field.name}" for part in changes for field in dataclasses.fields(getattr(student, part))
            ]
            raise ValueError(f"search.space has no setting '{key}'{nearest(key, options)}")
        changes[part][name] = value
    # As trees, so that values are checked as those of a file are.
    parts = {part: dataclasses.asdict(getattr(student, part)) | changed for part, changed in changes.items()}
    return StudentSettings.model_validate(dict(student) | parts)


def type_of(setting: str) -> Any:
    """The type of the student's setting "recipe.x" or "model.x"."""
    part, _, name = setting.partition(".")
    kind = {"recipe": Recipe, "model": StudentSpec}[part]
    return next(field.type for field in dataclasses.fields(kind) if field.name == name)


def to_yaml(config: Experiment) -> str:
    """The resolved config, every default written out; `load` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
