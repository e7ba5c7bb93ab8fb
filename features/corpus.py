"""One table of clips, whatever the data set's own layout. Splits are by location, and that is checked."""

import os
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from sys import intern

from features.taxonomy import Taxonomy

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")


class CorpusError(ValueError):
    """The corpus cannot be used as it is; the message says what is wrong and where, in one line."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of the table. `location` is the unit that splits must not share."""

    path: str  # POSIX, relative to the corpus root
    scene: str
    split: str
    location: str
    city: str = ""
    device: str = ""
    segment: str = ""  # what was recorded: clips of one segment by several devices are parallel, aligned in time


def check(clips: Iterable[Clip], root: Path, taxonomy: Taxonomy) -> list[Clip]:
    """The checks every corpus passes; returns the clips sorted by path. Raises CorpusError.

    Known scenes, paths inside the root, no clip twice, no location in two splits, no empty train or test
    split, every file there, none of them in two splits by a link.
    """
    clips = as_one(clips)
    for clip in clips:
        if clip.scene not in taxonomy.scenes:
            near = get_close_matches(clip.scene, taxonomy.scenes, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(taxonomy.scenes)}"
            raise CorpusError(f"{clip.path}: unknown scene '{clip.scene}'; {hint}")
        if clip.path.startswith("/") or ".." in clip.path.split("/"):
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
    places = {clip.path: place_of(f"{root}/{clip.path}") for clip in clips}
    missing = sorted(path for path, place in places.items() if place is None)
    if missing:
        raise CorpusError(f"{root / missing[0]} is not there{others(missing)}, though a split names it")
    require_distinct(clips, places)
    return sorted(clips, key=lambda clip: clip.path)


def as_one(clips: Iterable[Clip]) -> list[Clip]:
    """Equal things are written alike: paths in their shortest form, and of each location one spelling.

    Locations that differ in case, in spaces around them, or in how Unicode composes their letters, are one. What many
    clips have in common is in memory once.
    """
    kept = [
        Clip(
            str(PurePosixPath(clip.path)),
            *map(intern, (clip.scene, clip.split, clip.location, clip.city, clip.device, clip.segment)),
        )
        for clip in clips
    ]
    spellings: dict[str, set[str]] = defaultdict(set)
    for location in {clip.location for clip in kept}:
        spellings[folded(location)].add(location)
    other = {name: min(among) for among in spellings.values() for name in among if name != min(among)}
    return [replace(clip, location=other[clip.location]) if clip.location in other else clip for clip in kept]


def place_of(file: str) -> tuple[int, int] | None:
    """Device and inode of a file, which all its links share; None where there is no file. Raises OSError."""
    try:
        found = os.stat(file)  # noqa: PTH116 - making a Path takes longer than asking for the file
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a character that no file's name has
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def is_located(clip: Clip) -> bool:
    """Whether the corpus names the clip's location: readers take its path in place of one that is missing."""
    return folded(clip.location) != folded(clip.path)


def leak_check(located: int, clips: int) -> str:
    """What is known of locations in two splits, in words: of so many clips the location is known."""
    if located == clips:
        return "no recording location is in two splits"
    if not located:
        return "whether splits share a recording location was NOT checked: the corpus names none"
    return (
        f"whether splits share a recording location was NOT checked for {clips - located:,} of {clips:,} clips, which "
        f"name none"
    )


def folded(location: str) -> str:
    """The spelling by which locations are compared."""
    return unicodedata.normalize("NFC", location).strip().casefold()


def require_distinct(clips: Sequence[Clip], digests: Mapping[str, Hashable]) -> None:
    """Raise CorpusError where the same bytes are in two splits, as copies, links, or under two names.

    `digests` stand for the recordings' bytes, by path.
    """
    first: dict[Hashable, Clip] = {}
    copies = []
    for clip in clips:
        if clip.split in SPLITS and clip.path in digests:
            other = first.setdefault(digests[clip.path], clip)
            if other.split != clip.split:
                copies.append(f"{other.path} ({other.split}) and {clip.path} ({clip.split})")
    if copies:
        raise CorpusError(f"{copies[0]} are the same recording{others(copies)}; splits must not share one")


def is_recording(path: Path) -> bool:
    """By its name, below some folder: one of the endings, and no part hidden, as macOS' own files ("._x.wav") are."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def others(items: Sequence[str]) -> str:
    """Words for how many there are beside the first."""
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
