"""Readers: a data set's own layout -> one table of clips.

Three layouts: the official TAU 2020 Mobile one, a CSV manifest, a folder per scene.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from features.corpus import AUDIO_SUFFIXES, SPLITS, TEST, TRAIN, Clip, CorpusError, check, is_recording
from features.taxonomy import Taxonomy


def read_tau(root: Path, taxonomy: Taxonomy) -> list[Clip]:
    """Read TAU Urban Acoustic Scenes 2020 Mobile, development set, with its official split.

    Clips that no split file names are left out (6,105 of them in the genuine set).
    """
    require_folder(root)
    meta = meta_of(root)
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


def meta_of(root: Path) -> dict[str, dict[str, str]]:
    """TAU's meta.csv: file name -> row. Raises CorpusError where two rows of a file disagree."""
    file = root / "meta.csv"
    meta: dict[str, dict[str, str]] = {}
    for row in read_table(file, ["filename", "scene_label"], "\t"):
        if meta.setdefault(row["filename"], row) != row:
            raise CorpusError(f"{file} has two rows for {row['filename']} that are not equal")
    return meta


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
    clips of other values are left out. Folders that are no scene of the taxonomy are left out too, and files
    whose names do not match, unless none does.
    """
    require_folder(root)
    split_of = {value: split for split, values in splits.items() for value in values}
    clips, strangers = list[Clip](), list[Path]()
    for scene in taxonomy.scenes:
        folder = root / scene
        if not folder.is_dir():
            raise CorpusError(f"{root} has no folder for scene '{scene}'")
        for file in sorted(folder.iterdir()):
            if not is_recording(Path(file.name)) or not is_text(file.name) or not file.is_file():
                continue
            match = re.match(pattern, file.name)
            if match is None:
                strangers.append(file)
                continue
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
    if strangers and not clips:
        raise CorpusError(f"{strangers[0]} does not match corpus.layout.pattern '{pattern}', nor does any other file")
    return check(clips, root, taxonomy)


def left_out_of_tau(root: Path) -> list[str]:
    """What `read_tau` leaves out, a line each kind."""
    named = {
        row["filename"]
        for name in ("fold1_train.csv", "fold1_evaluate.csv")
        for row in read_table(root / "evaluation_setup" / name, ["filename"], "\t")
    }
    known = meta_of(root).keys()
    count = len(known - named)
    lines = [f"{counted(count, 'recording')} of meta.csv left out: no split names them"] if count else []
    names = (file.name for file in (root / "audio").iterdir()) if (root / "audio").is_dir() else ()
    beside = sum(f"audio/{name}" not in known for name in names if not name.startswith("."))
    return lines + ([f"{counted(beside, 'file')} in audio/ left out: meta.csv does not name them"] if beside else [])


def left_out_of_folders(root: Path, pattern: str, splits: Mapping[str, Sequence[str]], taxonomy: Taxonomy) -> list[str]:
    """What `read_folders` leaves out, a line each kind; hidden files are no recordings and are not counted."""
    known = {value for values in splits.values() for value in values}
    strange = sorted(
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and folder.name not in taxonomy.scenes and is_text(folder.name) and folder.name[0] != "."
    )
    endings, unsplit = Counter[str](), Counter[str]()
    folders, unnamed, nowhere, strangers = 0, 0, 0, list[str]()
    for file in (file for scene in taxonomy.scenes for file in (root / scene).iterdir()):
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
        elif (match := re.match(pattern, file.name)) is None:
            strangers.append(file.name)
        elif match["split"] not in known:
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
        lines.append(f"{counted(len(strange), 'folder')} left out, which is no scene: {', '.join(strange[:5])}")
    return lines


def unread(endings: Mapping[str, int]) -> list[str]:
    """A line for each ending of files that are not read."""
    return [
        f"{counted(count, 'file')} {ending} left out: no format that is read"
        for ending, count in sorted(endings.items())
    ]


def counted(count: int, noun: str) -> str:
    """Such as "1 file" or "3 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8: the bytes of others come as halves of surrogates, which no table holds."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def require_folder(root: Path) -> None:
    """Raise CorpusError where the corpus' root is no folder."""
    if not root.is_dir():
        raise CorpusError(
            f"corpus root {root} is not there; set corpus.root to your recordings "
            f"(docs/recordings.md: where ESC-10 and TAU's sets come from)"
        )


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
