"""LABEL.meta.yaml: who submits what, as the challenge's own template has it (DCASE 2021 task 1a)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from models.specs import BYTES_PER_PARAMETER
from orchestrator.config.reading import Strict, explain, read_yaml
from orchestrator.errors import UserError
from orchestrator.report.schema import BestTrial, Part, Report, Results

KILOBYTE = 1024
WIDTHS = (1, 2, 4)  # bytes of a parameter, by its type
Text = Annotated[str, Field(min_length=1)]


class Affiliation(Strict):
    abbreviation: Text
    institute: Text
    department: Text | None = None
    location: Text


class Author(Strict):
    """One author of a submission."""

    lastname: Text
    firstname: Text
    email: Text
    corresponding: bool = False
    affiliation: Affiliation


class About(Strict):
    """What a team writes about its system; the run supplies the rest."""

    label: str = Field(pattern=r"^[^\W\d_]+_[^\W_]+_task1a_[1-4]$")  # Lastname_Inst_task1a_N
    name: Text
    abbreviation: str = Field(min_length=1, max_length=10)
    authors: tuple[Author, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def one_corresponds(self) -> Self:
        count = sum(author.corresponding for author in self.authors)
        if count != 1:
            raise ValueError(f"exactly one author must be corresponding, not {count}")
        return self


class Description(Strict):
    """All of the template's fields must be there; those that do not apply to a system are null."""

    input_sampling_rate: str
    acoustic_features: str
    embeddings: str | None
    data_augmentation: str | None
    machine_learning_method: str
    ensemble_method_subsystem_count: int | None
    decision_making: str | None
    external_data_usage: str | None
    complexity_management: str | None


class Size(Strict):
    """The size section of the challenge's metadata."""

    total_parameters: Annotated[int, Field(gt=0)]
    total_parameters_non_zero: Annotated[int, Field(gt=0)]
    model_size: Annotated[float, Field(gt=0)]  # KB of non-zero parameters

    @model_validator(mode="after")
    def no_more_than_all(self) -> Self:
        if self.total_parameters_non_zero > self.total_parameters:
            raise ValueError("there are more non-zero parameters than parameters")
        return self


class External(Strict):
    name: str
    url: str
    total_audio_length: Annotated[float, Field(ge=0)]  # minutes


class System(Strict):
    description: Description
    complexity: Size
    external_datasets: tuple[External, ...] | None
    source_code: str | None


class Figures(Strict):
    logloss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    accuracy: Annotated[float, Field(ge=0, le=100)]  # percent


class Development(Strict):
    overall: Figures
    class_wise: dict[str, Figures]
    device_wise: dict[str, Figures]


class Measurements(Strict):
    development_dataset: Development


class Meta(Strict):
    submission: About
    system: System
    results: Measurements


def build_meta(
    about: dict[str, Any],
    results: Results,
    config: dict[str, Any],
    development: Report,
    weights: Sequence[NDArray[np.float16]],
) -> Meta:
    """The meta file of a run: `about` is what only its authors know. Raises UserError.

    Args:
        about: "submission", and optionally "external_datasets", "source_code" and parts of "description".
        results: the run's results.json.
        config: its resolved config.yaml, as read.
        development: the report of the system on the development set's test split.
        weights: what the exported file stores.
    """
    unknown = about.keys() - {"submission", "external_datasets", "source_code", "description"}
    if unknown:
        raise UserError(f"unknown section '{min(unknown)}' in the submission's facts")
    non_zero = sum(int(np.count_nonzero(values)) for values in weights)
    corrected = ", spectrum correction" if config["spectrum"]["correct"] else ""
    described = {
        "input_sampling_rate": f"{config['features']['sample_rate'] / 1000:g}kHz",
        "acoustic_features": "log-mel energies, deltas, delta-deltas" + corrected,
        "embeddings": None,
        "data_augmentation": ", ".join([*augmentations(config, results.best_trial), *results.corpus.copies]),
        "machine_learning_method": "CNN, knowledge distillation" if results.distilled else "CNN",
        "ensemble_method_subsystem_count": None,
        "decision_making": "product of two classifiers" if results.decision == "combined" else "maximum likelihood",
        "external_data_usage": None,
        "complexity_management": "knowledge distillation, " * results.distilled + "weight quantization to float16",
    }
    own = about.get("description") or {}
    if not isinstance(own, dict):
        raise UserError("the submission's facts: description must be fields of the template, or be left out")
    tree = {
        "submission": about.get("submission"),
        "system": {
            "description": described | own,
            "complexity": {
                "total_parameters": sum(values.size for values in weights),
                "total_parameters_non_zero": non_zero,
                "model_size": round(non_zero * BYTES_PER_PARAMETER / KILOBYTE, 2),
            },
            "external_datasets": about.get("external_datasets"),
            "source_code": about.get("source_code"),
        },
        "results": {
            "development_dataset": {
                "overall": figures(development),
                "class_wise": {name: figures(part) for name, part in development.per_class.items()},
                "device_wise": {name: figures(part) for name, part in development.per_device.items()},
            }
        },
    }
    try:
        return Meta.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"the submission's facts: {explain(error, Meta)}") from None


def augmentations(config: dict[str, Any], best: BestTrial | None) -> list[str]:
    """What the student's or its teachers' batches are changed by; of the student as the search has left it."""
    names = config["student"]["teachers"] or list(config["teachers"])
    found = best.settings if best else {}
    student = config["student"]["recipe"] | {key.removeprefix("recipe."): value for key, value in found.items()}
    recipes = [student, *(config["teachers"][name]["recipe"] for name in names)]
    used = {
        "mixup": "mixup_alpha",
        "time shift": "time_shift",
        "frequency mask": "mel_mask",
        "time mask": "time_mask",
    }
    names = [name for name, field in used.items() if any(recipe[field] for recipe in recipes)]
    return ["random crop", *names, *dict.fromkeys(name for recipe in recipes for name in recipe["augment"])]


def figures(report: Part) -> dict[str, float]:
    return {"logloss": round(report.log_loss, 4), "accuracy": round(100 * report.accuracy, 2)}


def write_meta(path: Path, meta: Meta) -> None:
    text = yaml.safe_dump(meta.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def check_meta(path: Path, scenes: list[str], devices: list[str], largest: int) -> list[str]:
    """What is wrong with a meta file, a line each."""
    try:
        meta = Meta.model_validate(read_yaml(path))
    except UserError as error:
        return [str(error)]
    except ValidationError as error:
        return [f"{path.name}: {explain(error, Meta)}"]
    problems = []
    label = path.name.removesuffix(".meta.yaml")
    if meta.submission.label != label:
        problems.append(f"{path.name}: its label is {meta.submission.label}")
    size, non_zero = meta.system.complexity.model_size, meta.system.complexity.total_parameters_non_zero
    if size * KILOBYTE > largest:
        problems.append(f"{path.name}: model_size is {size} KB; at most {largest / KILOBYTE:g} are allowed")
    elif all(abs(size * KILOBYTE - width * non_zero) > 0.01 * KILOBYTE for width in WIDTHS):
        problems.append(f"{path.name}: model_size is {size} KB, which is not {non_zero} times 1, 2 or 4 bytes")
    development = meta.results.development_dataset
    for name, given, wanted in (
        ("class_wise", development.class_wise, scenes),
        ("device_wise", development.device_wise, devices),
    ):
        if set(given) != set(wanted):
            problems.append(f"{path.name}: {name} has {', '.join(given)} instead of {', '.join(wanted)}")
    return problems
