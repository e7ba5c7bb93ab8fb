"""LABEL.output.csv: a row an evaluation file, its scene and every scene's probability."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.corpus import CorpusError
from features.readers import read_table

LIST = "evaluation_setup/fold1_test.csv"
TOLERANCE = 1e-3  # of a row's sum


def evaluation_files(root: Path) -> list[str]:
    """The evaluation set's files in its own order, as its list names them: "audio/0.wav". Raises CorpusError."""
    if not root.is_dir():
        raise CorpusError(f"evaluation set {root} is not there; set --evaluation")
    names = [row["filename"] for row in read_table(root / LIST, ["filename"], "\t")]
    if not names:
        raise CorpusError(f"{root / LIST} names no file")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CorpusError(f"{root / LIST} names {twice} twice")
    there = {path.relative_to(root).as_posix() for path in (root / "audio").glob("*.wav")}
    for problem, wrong in (("names", set(names) - there), ("does not name", there - set(names))):
        if wrong:
            word = "is not there" if problem == "names" else "is there"
            raise CorpusError(f"{root / LIST} {problem} {min(wrong)}, which {word}; {len(wrong)} such files")
    return names


def header(scenes: Sequence[str]) -> list[str]:
    return ["filename", "scene_label", *scenes]


def write_output(path: Path, rows: Mapping[str, Sequence[float]], scenes: Sequence[str]) -> None:
    """Write `rows`, filename -> probabilities in the order of `scenes`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header(scenes))
        for name, values in rows.items():
            label = scenes[max(range(len(scenes)), key=values.__getitem__)]
            writer.writerow([name, label, *(f"{value:.6f}" for value in values)])


def check_output(path: Path, files: Sequence[str], scenes: Sequence[str]) -> list[str]:
    """What is wrong with an output file, a line each: columns, files, labels, probabilities."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        return [f"{path.name}: cannot be read ({error})"]
    if not table or table[0] != header(scenes):
        return [f"{path.name}: the columns must be {', '.join(header(scenes))}, tab-separated"]
    problems, seen, known = [], set(), set(files)
    for number, row in enumerate(table[1:], 2):
        where = f"{path.name}, line {number}"
        if len(row) != len(scenes) + 2:
            problems.append(f"{where}: {len(row)} columns instead of {len(scenes) + 2}")
            continue
        name, label, *texts = row
        if name not in known:
            problems.append(f"{where}: {name} is no file of the evaluation set")
        if name in seen:
            problems.append(f"{where}: {name} has a row already")
        seen.add(name)
        problems += [f"{where}: {problem}" for problem in wrong_with(label, texts, scenes)]
    missing = [name for name in files if name not in seen]
    if missing:
        problems.append(f"{path.name}: {len(missing)} files have no row; the first is {missing[0]}")
    return problems


def wrong_with(label: str, texts: Sequence[str], scenes: Sequence[str]) -> list[str]:
    """What is wrong with one row's label and probabilities."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return ["a probability is not a number"]
    if not all(0 <= value <= 1 for value in values):  # NaN is not either
        return ["a probability is not between 0 and 1"]
    problems = []
    if not math.isclose(sum(values), 1, abs_tol=TOLERANCE):
        problems.append(f"probabilities sum to {sum(values):.4f}")
    if label not in scenes:
        problems.append(f"'{label}' is no scene")
    elif values[scenes.index(label)] < max(values):
        problems.append(f"'{label}' is not the most probable scene")
    return problems
