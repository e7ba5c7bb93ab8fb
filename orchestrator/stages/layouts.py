"""Corpus layouts: how a data set's folders and tables become one table of clips."""

from pathlib import Path
from typing import Protocol

from features.corpus import Clip, read_folders, read_manifest, read_tau
from features.taxonomy import Taxonomy
from orchestrator.config.corpus import FoldersSettings, ManifestSettings, TauSettings


class Layout(Protocol):
    """Made from its settings."""

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        """Every clip of the corpus at `root`, checked. Raises CorpusError."""
        ...


class Tau:
    """TAU Urban Acoustic Scenes' evaluation_setup files."""

    def __init__(self, settings: TauSettings) -> None:
        self.settings = settings

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        return read_tau(root, taxonomy)


class Manifest:
    """A CSV file with a row for each recording."""

    def __init__(self, settings: ManifestSettings) -> None:
        self.settings = settings

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        return read_manifest(root, root / self.settings.file, taxonomy)


class Folders:
    """A folder for each scene."""

    def __init__(self, settings: FoldersSettings) -> None:
        self.settings = settings

    def read(self, root: Path, taxonomy: Taxonomy) -> list[Clip]:
        return read_folders(root, self.settings.pattern, self.settings.splits, taxonomy)
