"""Readers: a data set's own layout -> one table of clips.

Three layouts: the official TAU 2020 Mobile one, a CSV manifest, a folder per scene.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from features.corpus import SPLITS, TEST, TRAIN, Clip, CorpusError, check
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
    return check(clips_of(manifest), root, taxonomy)


def clips_of(manifest: Path) -> Iterator[Clip]:
    """Its rows, one at a time. Raises CorpusError."""
    for row in read_table(manifest, ["path", "scene", "split"], ","):
        if row.get("location") and row.get("group"):
            raise CorpusError(f"{manifest} has both location and group; keep the one that splits must not share")
        if row["split"] not in SPLITS:
            raise CorpusError(f"{manifest}: {row['path']} has split '{row['split']}', not one of {', '.join(SPLITS)}")
        yield Clip(
            path=row["path"],
            scene=row["scene"],
            split=row["split"],
            location=row.get("location") or row.get("group") or row["path"],
            city=row.get("city", ""),
            device=row.get("device", ""),
            segment=row.get("segment", ""),
        )


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
