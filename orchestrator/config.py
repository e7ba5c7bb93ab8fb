"""One experiment is one validated file: presets/*.yaml or the user's own, with `--set a.b=c` on top."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from features.generated import CorpusSize
from features.settings import CONTEXT, Copies, FrontEnd
from features.taxonomy import TAU_GROUPS, Taxonomy
from models.recipe import Recipe
from models.schedule import DOUBLING
from models.specs import StudentSpec, TeacherSpec
from orchestrator.errors import UserError
from orchestrator.reading import Strict, explain, nearest, parse_yaml, read_yaml

PRESETS = Path(__file__).parent / "presets"


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

    @property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.from_groups(self.groups)


def require_cycle_ends(name: str, epochs: tuple[int, ...], recipe: Recipe) -> None:
    if not epochs or not set(epochs) <= set(recipe.cycle_ends):
        raise ValueError(f"{name} {list(epochs)} must be some of the cycle ends {list(recipe.cycle_ends)}")


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
    copies: bool = False  # train on the extra copies too
    average: tuple[int, ...] = DOUBLING[-3:]  # the cycle ends whose weights are averaged (PAPER 2.6)

    @model_validator(mode="after")
    def averages_exist(self) -> Self:
        require_cycle_ends("average", self.average, self.recipe)
        return self


class Range(Strict):
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("needs low < high, and low > 0 where log is true")
        return self


class Choices(Strict):
    choices: tuple[Any, ...] = Field(min_length=1)


class SearchSettings(Strict):
    """Students over recipes: Optuna proposes, ASHA stops the worse ones at cycle ends."""

    trials: Annotated[int, Field(ge=1)] = 16
    cycle_ends: tuple[int, ...]  # each trial's schedule, shorter than the final one
    reduction_factor: Annotated[int, Field(ge=2)] = 2  # ASHA keeps one in so many at each cycle end
    grace_cycles: Annotated[int, Field(ge=1)] = 1  # a trial is not judged before the end of this cycle
    space: dict[str, Range | Choices] = Field(
        {
            "recipe.scene_weight": Range(low=0.5, high=1.0),
            "recipe.soft_weight": Range(low=0.1, high=1.0),
            "recipe.temperature": Range(low=1.0, high=8.0, log=True),
            "recipe.mixup_alpha": Range(low=0.1, high=0.6),
        }
    )


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
    copies: Copies = Copies()
    teachers: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], TeacherSettings] = Field(min_length=1)
    ensemble_of: Literal["probabilities", "logits"] = "probabilities"  # what the teachers' average is taken of
    student: StudentSettings = StudentSettings()
    search: SearchSettings
    decision: Literal["scene", "combined"] = "combined"  # PAPER systems 1, 2, 4 / system 3
    select_by: Literal["log_loss", "accuracy"] = "log_loss"  # on validation: trials, averages
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
            if settings.copies and not self.copies.kinds:
                raise ValueError(f"{where}.copies is true, but copies.kinds names none")
        if self.copies.kinds and not any(settings.copies for settings in trained.values()):
            raise ValueError("copies.kinds would be made for nobody: set copies of a teacher or of the student")
        for key, domain in self.search.space.items():
            values = domain.choices if isinstance(domain, Choices) else (domain.low, domain.high)
            for value in values:
                apply_settings(self.student, {key: value})
        self.search_recipe({})
        if self.search.grace_cycles > len(self.search.cycle_ends):
            raise ValueError(
                f"search.grace_cycles is {self.search.grace_cycles}; there are {len(self.search.cycle_ends)} cycles"
            )
        return self

    def search_recipe(self, settings: dict[str, Any]) -> StudentSettings:
        """The student of one trial: `settings` on top, trained on the search's schedule."""
        ends = self.search.cycle_ends
        student = self.student.model_copy(update={"average": ends[-1:]})
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
        changes[part][name] = tuple(value) if isinstance(value, list) else value
    return StudentSettings(
        model=dataclasses.replace(student.model, **changes["model"]),
        recipe=dataclasses.replace(student.recipe, **changes["recipe"]),
        labels=student.labels,
        copies=student.copies,
        average=student.average,
    )


def load(source: str, overrides: Sequence[str] = ()) -> Experiment:
    """Load a preset by name, or a YAML file by path, with `a.b=value` overrides. Raises UserError."""
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    path = presets.get(source, Path(source))
    if source not in presets and not path.is_file():
        raise UserError(
            f"no preset or file '{source}'{nearest(source, list(presets)) or '; presets: ' + ', '.join(presets)}"
        )
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} is not a mapping of settings")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write it as a.b=value")
        assign(tree, key.split("."), parse_yaml(text, f"--set {override}"))
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, Experiment)}") from None


def assign(tree: dict[str, Any], keys: list[str], value: object) -> None:
    for depth, key in enumerate(keys[:-1]):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {'.'.join(keys)}: '{'.'.join(keys[: depth + 1])}' is a value, not a section")
    tree[keys[-1]] = value


def to_yaml(config: Experiment) -> str:
    """The resolved config, every default written out; `load` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def key_of(*values: Any) -> str:
    """16 hex digits that identify values: models, dataclasses and plain JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return value

    text = json.dumps([plain(value) for value in values], sort_keys=True, default=plain)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
