"""One experiment: every setting of a run, validated once. `loading.py` reads it from YAML."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from features.settings import BY_RESPONSE, CONTEXT, Copies, FrontEnd, Kind, Spectrum
from models.recipe import COLDEST
from models.table import Entry, Settings, Table
from orchestrator.config.corpus import CorpusSettings
from orchestrator.config.entries import some_of
from orchestrator.config.limits import Limits
from orchestrator.config.plain_yaml import dump_yaml
from orchestrator.config.reading import Strict, explain
from orchestrator.config.search import SearchSettings
from orchestrator.config.space import Choices, Range
from orchestrator.config.trained import CrossFittedSettings, StudentSettings, TeacherSettings, apply_settings, type_of

HOTTEST = 1000.0  # a temperature at which no teacher says anything any more
MOST = 10**12  # of any number but the seed


@dataclass(frozen=True)
class FormatSettings(Settings):
    """An exported file."""

    name: str
    largest_difference: float = 1e-3  # from torch, in probability: beyond it the run fails

    def __post_init__(self) -> None:
        if not self.largest_difference >= 0:
            raise ValueError(f"largest_difference must not be negative, not {self.largest_difference}")


FORMATS = Table(
    "export format",
    {
        "onnx": Entry(FormatSettings, "orchestrator.export.onnx:Onnx"),
        "tflite": Entry(FormatSettings, "orchestrator.export.tflite:Tflite"),
    },
)
"""An implementation is an orchestrator/export/formats.py: Format, made from its settings."""


MeanOver = Literal["clips", "devices"]


def fitted_or_given(value: Any) -> Any:
    """Whether temperatures are fitted, or two that are given. Raises ValueError."""
    given = value if isinstance(value, list | tuple) else ()
    is_number = [type(one) in (int, float) and COLDEST <= one <= HOTTEST for one in given]
    if type(value) is not bool and (len(is_number) != 2 or not all(is_number)):
        raise ValueError(f"must be true, false or two temperatures from {COLDEST:g} to {HOTTEST:,.0f}, not {value}")
    return value


class ValidationSettings(Strict):
    """What validation selects for."""

    # "devices": metrics are means over the recording devices, so that a rare one counts as much as the usual one; None:
    # so where the corpus names devices.
    mean_over: MeanOver | None = None
    # The search cuts its own folds out of training and validation clips: a trial is trained without fold 1 and judged
    # on it, the ones that were trained to their end on the other folds, too. 1: it is judged on the validation split.
    folds: Annotated[int, Field(ge=1, le=1000)] = 1
    leave_out_devices: tuple[str, ...] = ()  # not trained on, so that validation selects for devices never heard


class FinalSettings(Strict):
    """The final stage."""

    # Students of other initial weights; the best on validation is exported.
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1


class Resources(Strict):
    """Of one trial. More trials beat more threads a trial (docs/lab-notes.md)."""

    cpus_per_trial: Annotated[int, Field(ge=1, le=10_000)] = 1  # its threads
    gpus_per_trial: Annotated[float, Field(ge=0, le=1000)] = 0.0  # 0.25: four trials share one; 0: CPUs alone

    @property
    def device(self) -> str:
        """Of a trial: "cuda" where it has a share of a GPU, or "cpu"."""
        return "cuda" if self.gpus_per_trial else "cpu"


class Experiment(Strict):
    """Everything that determines a run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)  # part of a folder's name
    seed: Annotated[int, Field(ge=0)] = 0  # of every random draw, each with a purpose of its own
    corpus: CorpusSettings
    features: FrontEnd = FrontEnd()
    spectrum: Spectrum = Spectrum()
    copies: Copies = Copies()
    # By name; none: a baseline.
    teachers: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], TeacherSettings] = Field({})
    ensemble_of: Literal["probabilities", "logits"] = "probabilities"  # what the teachers' average is taken of
    # Divide the teachers' scores by a temperature of each classifier that is fitted on validation: their head caps how
    # sure they can be (docs/lab-notes.md). Two numbers: by these, of the scene and of the group classifier.
    calibrate_teachers: Annotated[bool | tuple[float, float], BeforeValidator(fitted_or_given)] = False
    student: StudentSettings = StudentSettings()
    limits: Limits = Limits()
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
    # Formats of the exported student, each run and compared with torch.
    export: Annotated[dict[str, Settings], some_of(FORMATS)] = Field({"onnx": {}, "tflite": {}}, validate_default=True)
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def takes_limits_out_of_the_search(cls, values: Any) -> Any:
        """Where they were before 2026-12, so that older runs can be read."""
        search = values.get("search") if isinstance(values, dict) else None
        if isinstance(search, Mapping) and isinstance(limits := search.get("limits"), Mapping):
            given = {name: value for name, value in limits.items() if value is not None}
            rest = {name: value for name, value in search.items() if name != "limits"}
            return {**values, "search": rest, "limits": {**given, **(values.get("limits") or {})}}
        return values

    @model_validator(mode="before")
    @classmethod
    def decides_by_scenes_where_there_are_no_groups(cls, values: Any) -> Any:
        """Unless the file says how, which `consistent` judges."""
        corpus = values.get("corpus") if isinstance(values, dict) else None
        if isinstance(corpus, Mapping) and corpus.get("groups", "tau") is None and "decision" not in values:
            return {**values, "decision": "scene"}
        return values

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """Raises ValueError where two settings contradict each other."""
        self.check_numbers()
        room = self.features.frames - 2 * CONTEXT
        trained = {f"teachers.{name}": teacher for name, teacher in self.teachers.items()} | {"student": self.student}
        for where, settings in trained.items():
            if settings.recipe.crop_frames > room:
                raise ValueError(
                    f"{where}.recipe.crop_frames is {settings.recipe.crop_frames}, but a clip of "
                    f"{self.features.clip_seconds:g} s has {room} frames with deltas"
                )
            widest = {"mel_mask": self.features.n_mels, "time_mask": self.features.frames}
            for name, most in widest.items():
                if getattr(settings.recipe, name) > most:
                    raise ValueError(f"{where}.recipe.{name} must be at most {most}, what a clip has")
            slices = settings.model.mel_slices
            if self.features.n_mels % slices:
                raise ValueError(f"{where}.model cuts {self.features.n_mels} mel bins into {slices}: choose a divisor")
            if settings is not self.student and settings.recipe.moving_average:
                raise ValueError(f"{where}.recipe.moving_average: teachers vote as they are; it is for the student")
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
        if (self.calibrate_teachers is True or self.student.calibrate) and "validation" in self.corpus.fit_on:
            raise ValueError(
                "corpus.fit_on leaves no validation split to calibrate on: set calibrate_teachers and "
                "student.calibrate to false"
            )
        self.check_folds()
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

    def check_numbers(self) -> None:
        """Raises ValueError for a number that cannot be meant, whatever setting it is of."""
        for name, value in numbers_in(self.model_dump(exclude={"seed"})):
            if not abs(value) <= MOST:
                raise ValueError(f"{name} must be finite, and at most {MOST:,}")
        if any(abs(shift) > self.features.frames for shift in self.test_shifts):
            raise ValueError(
                f"test_shifts {list(self.test_shifts)} must be within a clip's {self.features.frames} frames"
            )

    def check_folds(self) -> None:
        """Raises ValueError where folds, or parts for teachers, cannot be kept apart."""
        if self.validation.folds > 1 and (self.spectrum.correct or set(self.kinds_of_copies) & set(BY_RESPONSE)):
            raise ValueError(
                "devices' responses are measured on one training split: with validation.folds, set spectrum.correct to "
                "false and leave kinds spectrum and dir out of copies.kinds"
            )
        if isinstance(self.student.labels, CrossFittedSettings) and "mix" in self.kinds_of_copies:
            raise ValueError(
                "copies of kind mix put clips of one part into another: leave mix out of copies.kinds, or choose other "
                "student.labels than crossfit"
            )

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
        if search.objectives and self.select_by not in search.objectives:
            raise ValueError(f"search.objectives {list(search.objectives)} must have select_by's, {self.select_by}")
        self.search_recipe({})
        if not self.teachers and "recipe.soft_weight" in search.space:
            raise ValueError("there are no teachers: leave recipe.soft_weight out of search.space")

    @property
    def labelling(self) -> dict[str, TeacherSettings]:
        """The teachers that label; no others are trained."""
        return {name: self.teachers[name] for name in self.student.teachers or self.teachers}

    @property
    def search_cuts(self) -> tuple[str, ...]:
        """The cuts of the recordings that the search trains on: the run's own, whose name is empty, or its folds."""
        folds = self.validation.folds if self.search else 1
        return tuple(f"fold{fold}" for fold in range(1, folds + 1)) if folds > 1 else ("",)

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


def numbers_in(value: object, name: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number of plain values, with the names that lead to it."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from numbers_in(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers_in(part, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def to_yaml(config: Experiment) -> str:
    """The resolved config, every default written out; `load` reads it back to an equal one."""
    return dump_yaml(config.model_dump(mode="json"))
