"""Corpus layouts: how a data set's folders and tables become one table of clips."""

from pathlib import Path
from typing import Protocol

from features.corpus import Clip
from features.folders import Folders as How
from features.folders import left_out_of_folders, read_folders
from features.readers import left_out_of_tau, read_manifest, read_tau
from features.taxonomy import Taxonomy
from orchestrator.config.corpus import FoldersSettings, ManifestSettings, TauSettings


class Layout(Protocol):
    """Made from its settings."""

    locations: str
    """What of the layout names the clips' locations, such as "a column location"."""

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        """Every clip of the corpus at `root`, checked. Raises CorpusError."""
        ...

    def left_out(self, root: Path, taxonomy: Taxonomy) -> list[str]:
        """What is there and is not read, a line each kind."""
        ...


class Tau:
    """TAU Urban Acoustic Scenes' evaluation_setup files."""

    locations = "the column identifier of meta.csv"

    def __init__(self, settings: TauSettings) -> None:
        self.settings = settings

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        return read_tau(root, taxonomy)

    def left_out(self, root: Path, taxonomy: Taxonomy) -> list[str]:
        return left_out_of_tau(root)


class Manifest:
    """A CSV file with a row for each recording."""

    locations = "a column location in the manifest"

    def __init__(self, settings: ManifestSettings) -> None:
        self.settings = settings

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        return read_manifest(root, root / self.settings.file, taxonomy)

    def left_out(self, root: Path, taxonomy: Taxonomy) -> list[str]:
        return []


class Folders:
    """A folder for each scene."""

    locations = "a group (?P<location>...) in corpus.layout.pattern"

    def __init__(self, settings: FoldersSettings) -> None:
        self.how = How(settings.matched, settings.splits, settings.split_by, settings.test_fraction, settings.seed)

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        return read_folders(root, self.how, taxonomy)

    def left_out(self, root: Path, taxonomy: Taxonomy) -> list[str]:
        return left_out_of_folders(root, self.how, taxonomy)
