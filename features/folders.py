"""Recordings in a folder per scene: the split is in the file's name, in a folder above, or cut by a seed."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from features.corpus import AUDIO_SUFFIXES, TEST, TRAIN, VALIDATION, Clip, CorpusError, check, is_recording
from features.cuts import cut_validation
from features.patterns import fitting_pattern
from features.readers import counted, is_text, require_folder, unread
from features.taxonomy import Taxonomy

SplitBy = Literal["name", "folder", "cut"]


@dataclass(frozen=True)
class Folders:
    """How the folders are read."""

    # A regular expression at the start of each file's name, with named groups out of split, location, city, device and
    # segment; others are left out.
    pattern: str
    # Split -> the values of the pattern's split group, or names of folders, that belong to it; others are left out.
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    split_by: SplitBy = "name"  # or by the folder above the scenes', or cut: a share of each scene's locations
    test_fraction: float = 0.25  # of each scene's recordings, where they are cut
    seed: int = 0  # of that cut

    @property
    def split_of(self) -> dict[str, str]:
        """Value -> split."""
        return {value: split for split, values in self.splits.items() for value in values}

    def places(self, root: Path, scenes: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
        """The split's value ("" where no folder tells it), scene and folder of every folder that holds recordings."""
        for value in self.split_of if self.split_by == "folder" else [""]:
            for scene in scenes:
                folder = root / value / scene
                if self.split_by != "folder" or folder.is_dir():
                    yield value, scene, folder


def read_folders(root: Path, how: Folders, taxonomy: Taxonomy) -> list[Clip]:
    """Read a folder per scene; what else is known of a clip is in its file name, or in the folder above.

    Folders that are no scene of the taxonomy are left out, and files whose names do not match, unless none does.
    Raises CorpusError with the setting that would fit the folders that are there.
    """
    require_folder(root)
    clips, strangers = list[Clip](), list[Path]()
    found_scenes, unsplit = set[str](), set[str]()
    for value, scene, folder in how.places(root, taxonomy.scenes):
        if not folder.is_dir():
            raise CorpusError(f"{root} has no folder for scene '{scene}'{other_ways(root, taxonomy, how)}")
        found_scenes.add(scene)
        for file in sorted(folder.iterdir()):
            if not is_recording(Path(file.name)) or not is_text(file.name) or not file.is_file():
                continue
            match = re.match(how.pattern, file.name)
            if match is None:
                strangers.append(file)
                continue
            found = match.groupdict(default="")
            split = TRAIN if how.split_by == "cut" else how.split_of.get(value or found["split"])
            if split is None:
                unsplit.add(found["split"])
                continue
            path = file.relative_to(root).as_posix()
            clips.append(
                Clip(
                    path=path,
                    scene=scene,
                    split=split,
                    location=found.get("location") or path,
                    city=found.get("city", ""),
                    device=found.get("device", ""),
                    segment=found.get("segment", ""),
                )
            )
    for scene in taxonomy.scenes:
        if scene not in found_scenes:
            raise CorpusError(f"{root} has no folder for scene '{scene}'{other_ways(root, taxonomy, how)}")
    if strangers and not clips:
        raise CorpusError(
            f"{strangers[0]} does not match corpus.layout.pattern '{how.pattern}', nor does any other file"
            f"{other_ways(root, taxonomy, how)}"
        )
    if unsplit and not clips:
        values, known = ", ".join(sorted(unsplit)[:5]), ", ".join(how.split_of)
        raise CorpusError(
            f"names in {root} have the splits {values}, of which corpus.layout.splits has none (it has {known})"
            f"{other_ways(root, taxonomy, how)}"
        )
    return check(cut_test(clips, how) if how.split_by == "cut" else clips, root, taxonomy)


def cut_test(clips: Sequence[Clip], how: Folders) -> list[Clip]:
    """Whole locations of each scene become the test split; where none are named, each recording is one."""
    try:
        cut = cut_validation(clips, how.test_fraction, how.seed)
    except CorpusError as error:
        reason = str(error).replace("validation by", "a test split by")
        raise CorpusError(f"corpus.layout.split_by is cut: {reason}") from None
    return [replace(clip, split=TEST) if clip.split == VALIDATION else clip for clip in cut]


def other_ways(root: Path, taxonomy: Taxonomy, how: Folders) -> str:
    """What of corpus.layout would fit the folders that are there, in words; empty where nothing would."""
    names = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and is_text(folder.name))
    above = [name for name in names if any((root / name / scene).is_dir() for scene in taxonomy.scenes)]
    if above and how.split_by != "folder":
        return f"; scenes are in its folders {', '.join(above[:5])}: set corpus.layout.split_by to folder"
    are_there = all(scene in names for scene in taxonomy.scenes)
    if are_there and how.split_by == "name":
        pattern = fitting_pattern(recordings_in(root, taxonomy), how.split_of)
        if pattern:
            return f"; set corpus.layout.pattern to '{pattern}'"
    if are_there and how.split_by != "cut":
        return "; where no name tells a split, set corpus.layout.split_by to cut"
    if not above and names:
        return f"; it has {', '.join(names[:5])}: name the scenes of corpus.groups or corpus.scenes so"
    return ""


def recordings_in(root: Path, taxonomy: Taxonomy) -> list[str]:
    """Names of the recordings in the folders of scenes."""
    files = [file for scene in taxonomy.scenes for file in (root / scene).iterdir()]
    return sorted(file.name for file in files if is_recording(Path(file.name)) and is_text(file.name))


def left_out_of_folders(root: Path, how: Folders, taxonomy: Taxonomy) -> list[str]:
    """What `read_folders` leaves out, a line each kind; hidden files are no recordings and are not counted."""
    known = how.split_of
    expected = known if how.split_by == "folder" else taxonomy.scenes
    strange = sorted(
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and folder.name not in expected and is_text(folder.name) and folder.name[0] != "."
    )
    endings, unsplit = Counter[str](), Counter[str]()
    folders, unnamed, nowhere, strangers = 0, 0, 0, list[str]()
    places = how.places(root, taxonomy.scenes)
    for value, file in ((value, file) for value, _, folder in places for file in folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.is_dir():
            folders += 1
        elif not is_text(file.name):
            unnamed += 1
        elif not file.is_file():
            nowhere += 1
        elif file.suffix.lower() not in AUDIO_SUFFIXES:
            endings[file.suffix.lower() or "without an ending"] += 1
        elif (match := re.match(how.pattern, file.name)) is None:
            strangers.append(file.name)
        elif how.split_by == "name" and not value and match["split"] not in known:
            unsplit[match["split"] or ""] += 1
    lines = unread(endings)
    if strangers:
        lines.append(
            f"{counted(len(strangers), 'recording')} left out: the name does not match corpus.layout.pattern, such as "
            f"{min(strangers)}"
        )
    if nowhere:
        lines.append(f"{counted(nowhere, 'file')} left out: a link that leads nowhere, a pipe or a device")
    beside = sum(is_recording(Path(file.name)) for file in root.iterdir() if file.is_file())
    if beside:
        lines.append(f"{counted(beside, 'recording')} beside the folders of scenes left out")
    if folders:
        lines.append(
            f"{counted(folders, 'folder')} in folders of scenes left out: recordings lie directly in a scene's folder"
        )
    if unnamed:
        lines.append(f"{counted(unnamed, 'file')} left out: the name is not UTF-8")
    if unsplit:
        values = ", ".join(sorted(unsplit))
        lines.append(f"{counted(unsplit.total(), 'recording')} left out: corpus.layout.splits has no {values}")
    if strange:
        what = "split" if how.split_by == "folder" else "scene"
        lines.append(f"{counted(len(strange), 'folder')} left out, which is no {what}: {', '.join(strange[:5])}")
    return lines
