"""Where the recordings are, how they lie there, and how they are labelled."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from features.corpus import SPLITS
from features.folders import SplitBy
from features.generated import CorpusSize
from features.taxonomy import TAU_GROUPS, Taxonomy
from models.table import Entry, Settings, Table
from orchestrator.config.entries import one_of
from orchestrator.config.reading import Strict, read_yaml


@dataclass(frozen=True)
class TauSettings(Settings):
    """TAU Urban Acoustic Scenes 2020 Mobile, development set, with its official split."""

    name: str = "tau"


@dataclass(frozen=True)
class ManifestSettings(Settings):
    """A CSV file: columns path, scene, split, and optionally location or group, city, device and segment."""

    name: str = "manifest"
    file: str = "manifest.csv"  # relative to corpus.root


@dataclass(frozen=True)
class FoldersSettings(Settings):
    """A folder per scene; what else is known of a clip is in its file name, or in the folder above."""

    name: str = "folders"
    # A regular expression at the start of file names, with groups such as (?P<location>...). None: split and location
    # before dashes, as in train-lunch-01.wav, where names tell the split; else any name.
    pattern: str | None = None
    # Split -> the values of the pattern's split group, or folders, that belong to it; others are left out.
    splits: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"train": ("train",), "test": ("test",)})
    # name: the pattern's group split; folder: train/cafe/x.wav; cut: a share of each scene's locations by a seed.
    split_by: SplitBy = "name"
    test_fraction: float = 0.25  # of each scene's recordings, where they are cut
    seed: int = 0  # of that cut

    @property
    def matched(self) -> str:
        """The pattern in use."""
        by_name = r"(?P<split>[^-]+)-(?P<location>[^-]+)-" if self.split_by == "name" else ""
        return by_name if self.pattern is None else self.pattern

    def __post_init__(self) -> None:
        try:
            known = re.compile(self.matched).groupindex
        except re.error as error:
            raise ValueError(f"pattern: not a regular expression: {error}") from None
        if self.split_by == "name" and "split" not in known:
            raise ValueError("pattern: needs a group (?P<split>...), or set split_by to folder or cut")
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction must be between 0 and 1, not {self.test_fraction}")


LAYOUTS = Table(
    "layout",
    {
        "tau": Entry(TauSettings, "orchestrator.stages.layouts:Tau"),
        "manifest": Entry(ManifestSettings, "orchestrator.stages.layouts:Manifest"),
        "folders": Entry(FoldersSettings, "orchestrator.stages.layouts:Folders"),
    },
)
"""An implementation is an orchestrator/stages/layouts.py: Layout, made from its settings."""


def read_groups(value: object) -> object:
    """ "tau", the path of a YAML file, or the mapping {group: [scene, ...]} itself."""
    if value == "tau":
        return TAU_GROUPS
    if isinstance(value, str):
        return read_yaml(Path(value))
    return value


class CorpusSettings(Strict):
    """Where the recordings are, how their folder is laid out, and how they are split."""

    layout: Annotated[Settings, one_of(LAYOUTS)]  # how the folder is read (docs/recordings.md)
    root: Path  # the folder of the recordings
    # Group -> its scenes. None: there are no groups, and `scenes` names the scenes.
    groups: Annotated[dict[str, tuple[str, ...]] | None, BeforeValidator(read_groups)] = Field(
        "tau", validate_default=True
    )
    scenes: tuple[str, ...] | None = None  # where there are no groups
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15  # of each scene's train clips, by location
    generate: CorpusSize | None = None  # make a corpus of this size at root if there is none
    # The splits that models are trained on. With more than "train" nothing is left to choose by (`stillhouse refit`).
    fit_on: tuple[Literal["train", "validation", "test"], ...] = ("train",)

    @field_validator("fit_on")
    @classmethod
    def fits_on_one_more_after_another(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if splits not in (SPLITS[:1], SPLITS[:2], SPLITS):
            raise ValueError(f"must be [train], [train, validation] or [train, validation, test], not {list(splits)}")
        return splits

    @model_validator(mode="after")
    def scenes_are_a_taxonomy(self) -> Self:
        if (self.groups is None) == (self.scenes is None):
            raise ValueError("name either groups with their scenes, or scenes, with groups: null")
        assert self.taxonomy
        return self

    @property
    def taxonomy(self) -> Taxonomy:
        """Raises ValueError where a scene is named twice, or fewer than two are."""
        return Taxonomy.from_scenes(self.scenes or ()) if self.groups is None else Taxonomy.from_groups(self.groups)
