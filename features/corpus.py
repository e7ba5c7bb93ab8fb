"""Readers: a data set's own layout -> one table of clips. Splits are by location, and that is checked.

Three layouts: the official TAU 2020 Mobile one, a CSV manifest, a folder per class.
"""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from features.taxonomy import Taxonomy

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")


class CorpusError(ValueError):
    """The corpus cannot be used as it is; the message says what is wrong and where, in one line."""


@dataclass(frozen=True)
class Clip:
    """One row of the table. `location` is the unit that splits must not share."""

    path: str  # POSIX, relative to the corpus root
    scene: str
    split: str
    location: str
    city: str = ""
    device: str = ""
    segment: str = ""  # what was recorded: clips of one segment by several devices are parallel, aligned in time


def read_tau(root: Path, taxonomy: Taxonomy) -> list[Clip]:
    """Read TAU Urban Acoustic Scenes 2020 Mobile, development set, with its official split.

    Clips that no split file names are left out (6,105 of them in the genuine set).
    """
    require_folder(root)
    meta = {row["filename"]: row for row in read_table(root / "meta.csv", ["filename", "scene_label"], "\t")}
    clips: list[Clip] = []
    for split, name in ((TRAIN, "fold1_train.csv"), (TEST, "fold1_evaluate.csv")):
        table = root / "evaluation_setup" / name
        for row in read_table(table, ["filename", "scene_label"], "\t"):
            path = row["filename"]
            if path not in meta:
                raise CorpusError(f"{table} names {path}, which meta.csv does not have")
            if meta[path]["scene_label"] != row["scene_label"]:
                raise CorpusError(
                    f"{table}: {path} is '{row['scene_label']}' there, '{meta[path]['scene_label']}' in meta.csv"
                )
            location = meta[path].get("identifier", "")
            clips.append(
                Clip(
                    path=path,
                    scene=row["scene_label"],
                    split=split,
                    location=location or path,
                    city=location.split("-")[0],
                    device=meta[path].get("source_label", ""),
                    segment=PurePosixPath(path).stem.rpartition("-")[0],  # scene-city-location-segment-device.wav
                )
            )
    return check(clips, root, taxonomy)


def read_manifest(root: Path, manifest: Path, taxonomy: Taxonomy) -> list[Clip]:
    """Read a CSV with columns path, scene and split, and optionally location or group, city, device and segment.

    Paths are relative to `root`. A clip without location is a location of its own.
    """
    require_folder(root)
    clips = []
    for row in read_table(manifest, ["path", "scene", "split"], ","):
        if row.get("location") and row.get("group"):
            raise CorpusError(f"{manifest} has both location and group; keep the one that splits must not share")
        if row["split"] not in SPLITS:
            raise CorpusError(f"{manifest}: {row['path']} has split '{row['split']}', not one of {', '.join(SPLITS)}")
        clips.append(
            Clip(
                path=row["path"],
                scene=row["scene"],
                split=row["split"],
                location=row.get("location") or row.get("group") or row["path"],
                city=row.get("city", ""),
                device=row.get("device", ""),
                segment=row.get("segment", ""),
            )
        )
    return check(clips, root, taxonomy)


def read_folders(root: Path, pattern: str, splits: Mapping[str, Sequence[str]], taxonomy: Taxonomy) -> list[Clip]:
    """Read a folder per scene; what else is known of a clip is in its file name.

    `pattern` is a regular expression matched at the start of each name, with named groups out of split,
    location, city, device and segment. `splits` translates its split group: {"train": ["1", "2"], "test": ["3"]};
    clips of other values are left out. Folders that are no scene of the taxonomy are left out too.
    """
    require_folder(root)
    split_of = {value: split for split, values in splits.items() for value in values}
    clips = []
    for scene in taxonomy.scenes:
        folder = root / scene
        if not folder.is_dir():
            raise CorpusError(f"{root} has no folder for scene '{scene}'")
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            match = re.match(pattern, file.name)
            if match is None:
                raise CorpusError(f"{file} does not match corpus.pattern '{pattern}'")
            found = match.groupdict(default="")
            if found["split"] not in split_of:
                continue
            path = f"{scene}/{file.name}"
            clips.append(
                Clip(
                    path=path,
                    scene=scene,
                    split=split_of[found["split"]],
                    location=found.get("location") or path,
                    city=found.get("city", ""),
                    device=found.get("device", ""),
                    segment=found.get("segment", ""),
                )
            )
    return check(clips, root, taxonomy)


def check(clips: Sequence[Clip], root: Path, taxonomy: Taxonomy) -> list[Clip]:
    """The checks every corpus passes; returns the clips sorted by path. Raises CorpusError.

    Known scenes, paths inside the root, no clip twice, no location in two splits, no empty train or test
    split, every file there.
    """
    clips = [replace(clip, path=str(PurePosixPath(clip.path))) for clip in clips]
    for clip in clips:
        if clip.scene not in taxonomy.scenes:
            near = get_close_matches(clip.scene, taxonomy.scenes, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(taxonomy.scenes)}"
            raise CorpusError(f"{clip.path}: unknown scene '{clip.scene}'; {hint}")
        if PurePosixPath(clip.path).is_absolute() or ".." in PurePosixPath(clip.path).parts:
            raise CorpusError(f"{clip.path} leads out of the corpus root")
    twice = [path for path, count in Counter(clip.path for clip in clips).items() if count > 1]
    if twice:
        raise CorpusError(f"{twice[0]} is listed more than once{others(twice)}")
    splits_of: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        splits_of[clip.location].add(clip.split)
    leaks = sorted(location for location, splits in splits_of.items() if len(splits) > 1)
    if leaks:
        where = " and ".join(sorted(splits_of[leaks[0]]))
        raise CorpusError(f"location '{leaks[0]}' is in {where}{others(leaks)}; splits must not share a location")
    for split in (TRAIN, TEST):
        if not any(clip.split == split for clip in clips):
            raise CorpusError(f"{root}: the {split} split is empty")
    missing = sorted(clip.path for clip in clips if not (root / clip.path).is_file())
    if missing:
        raise CorpusError(f"{root / missing[0]} is not there{others(missing)}, though a split names it")
    return sorted(clips, key=lambda clip: clip.path)


def cut_validation(clips: Sequence[Clip], fraction: float, seed: int) -> list[Clip]:
    """Move whole locations from train to validation until it has `fraction` of each scene's train clips.

    Which ones depends on their names and the seed alone, so adding a location does not reshuffle the others.
    A corpus that brings its own validation split keeps it. Raises CorpusError where a scene has too few
    locations to lend one.
    """
    if any(clip.split == VALIDATION for clip in clips):
        return list(clips)
    left: dict[str, set[str]] = defaultdict(set)  # scene -> locations that training keeps
    scenes_at: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.split == TRAIN:
            left[clip.scene].add(clip.location)
            scenes_at[clip.location].add(clip.scene)
    chosen: set[str] = set()
    for scene in sorted({clip.scene for clip in clips}):
        sizes = Counter(clip.location for clip in clips if clip.split == TRAIN and clip.scene == scene)
        if len(sizes) < 2:
            raise CorpusError(f"scene '{scene}' has {len(sizes)} training locations; validation by location needs 2")
        wanted = fraction * sizes.total()
        have = sum(size for location, size in sizes.items() if location in chosen)
        for location in sorted(sizes, key=lambda name: rank(name, seed)):
            if have >= wanted:
                break
            # No scene, this or another that was recorded there, lends its last location.
            if location in chosen or any(len(left[other]) < 2 for other in scenes_at[location]):
                continue
            have += sizes[location]
            chosen.add(location)
            for other in scenes_at[location]:
                left[other].discard(location)
    return [
        replace(clip, split=VALIDATION) if clip.split == TRAIN and clip.location in chosen else clip for clip in clips
    ]


def cut_folds(clips: Sequence[Clip], folds: int, seed: int) -> list[list[Clip]]:
    """The table once for each of `folds` folds: its validation split is the fold, each training clip is in one.

    Scene by scene, the largest location first, each goes to the fold that has the fewest locations of the scene, and of
    those the fewest clips. Raises CorpusError where a scene has fewer training locations than there are folds.
    """
    if any(clip.split == VALIDATION for clip in clips):
        raise CorpusError("the corpus brings its own validation split: set validation.folds to 1")
    fold_of: dict[str, int] = {}
    for scene in sorted({clip.scene for clip in clips}):
        sizes = Counter(clip.location for clip in clips if clip.split == TRAIN and clip.scene == scene)
        if len(sizes) < folds:
            raise CorpusError(f"validation.folds is {folds}, but scene '{scene}' has {len(sizes)} training locations")
        filled: dict[int, tuple[int, int]] = dict.fromkeys(range(1, folds + 1), (0, 0))  # locations and clips
        for location in sorted(sizes, key=lambda name: (name not in fold_of, -sizes[name], rank(name, seed))):
            fold = fold_of.setdefault(location, min(filled, key=filled.__getitem__))
            filled[fold] = filled[fold][0] + 1, filled[fold][1] + sizes[location]
        if (0, 0) in filled.values():
            raise CorpusError(f"validation.folds is {folds}, but locations of scene '{scene}' are also of others")
    return [
        [
            replace(clip, split=VALIDATION) if clip.split == TRAIN and fold_of[clip.location] == fold else clip
            for clip in clips
        ]
        for fold in range(1, folds + 1)
    ]


def is_recording(path: Path) -> bool:
    """By its name, below some folder: one of the endings, and no part hidden, as macOS' own files ("._x.wav") are."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def rank(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()


def require_folder(root: Path) -> None:
    if not root.is_dir():
        raise CorpusError(f"corpus root {root} is not there; set corpus.root")


def read_table(path: Path, columns: Iterable[str], delimiter: str) -> Iterator[dict[str, str]]:
    """Rows of a delimited text file with a header that has at least `columns`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter, restval="")
            absent = [name for name in columns if name not in (reader.fieldnames or [])]
            if absent:
                raise CorpusError(f"{path} has no column '{absent[0]}'")
            yield from reader
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise CorpusError(f"{path} cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"{path} is not a UTF-8 text file") from None


def others(items: Sequence[str]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
