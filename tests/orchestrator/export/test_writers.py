"""Predictions as text."""

import csv
import json
import os
from pathlib import Path

import pytest
import torch

from orchestrator.export.writers import WRITERS, Prediction, shown

SCENES = ["bus", "metro", "park"]
TWO = Prediction(1.5, [0.0, 0.5], torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.75, 0.25]]), ("resampled from 8000 Hz",))
ONE = Prediction(1.0, [0.0], torch.tensor([[0.0, 0.0, 1.0]]), ())


def written(form: str, windows: bool) -> list[str]:
    lines: list[str] = []
    writer = WRITERS[form](lines.append, windows)
    writer.prediction(Path("a.wav"), SCENES, TWO)
    writer.refused(Path("b,c.wav"), "no samples")
    writer.prediction(Path("d.wav"), SCENES, ONE)
    writer.end()
    return lines


def test_lines():
    whole = "a.wav\tmetro 0.500, bus 0.250, park 0.250\t(resampled from 8000 Hz; mean of 2 windows)"
    assert written("lines", False) == [whole, "b,c.wav\tno samples", "d.wav\tpark 1.000, bus 0.000, metro 0.000"]
    assert written("lines", True)[:3] == [
        whole,
        "a.wav\t0.00 s\tbus 0.500, metro 0.250, park 0.250",
        "a.wav\t0.50 s\tmetro 0.750, park 0.250, bus 0.000",
    ]


def test_csv():
    head, whole, bad, last = [
        "path,start,scene,notes,refused,bus,metro,park",
        "a.wav,0.000,metro,resampled from 8000 Hz,,0.250000,0.500000,0.250000",
        '"b,c.wav",,,,no samples,,,',
        "d.wav,0.000,park,,,0.000000,0.000000,1.000000",
    ]
    assert written("csv", False) == [head, whole, bad, last]
    windows = [
        "a.wav,0.000,bus,resampled from 8000 Hz,,0.500000,0.250000,0.250000",
        "a.wav,0.500,metro,resampled from 8000 Hz,,0.000000,0.750000,0.250000",
    ]
    assert written("csv", True) == [head, *windows, bad, last]


def test_a_csv_whose_first_recordings_are_bad_has_its_columns():
    lines: list[str] = []
    writer = WRITERS["csv"](lines.append, False)
    writer.refused(Path("b.wav"), "no samples")
    writer.prediction(Path("d.wav"), SCENES, ONE)
    bad, good = csv.DictReader(lines)
    assert bad["refused"] == "no samples" and good["scene"] == "park" and good["park"] == "1.000000"


def test_a_csv_of_bad_recordings_alone_has_their_reasons():
    lines: list[str] = []
    writer = WRITERS["csv"](lines.append, False)
    writer.refused(Path("b.wav"), "no samples")
    writer.end()
    assert lines == ["path,start,scene,notes,refused", "b.wav,,,,no samples"]


def test_json():
    first, bad, last = json.loads("\n".join(written("json", True)))
    assert first["path"] == "a.wav" and first["seconds"] == 1.5 and first["notes"] == ["resampled from 8000 Hz"]
    assert first["scene"] == "metro"
    assert first["probabilities"] == {"bus": 0.25, "metro": 0.5, "park": 0.25}
    assert first["windows"][1] == {
        "start": 0.5,
        "scene": "metro",
        "probabilities": {"bus": 0.0, "metro": 0.75, "park": 0.25},
    }
    assert bad == {"path": "b,c.wav", "refused": "no samples"} and last["scene"] == "park"
    uneven = Prediction(1.23456, [0.23456], ONE.windows, ())
    lines: list[str] = []
    WRITERS["json"](lines.append, True).prediction(Path("e.wav"), SCENES, uneven)
    assert '"seconds": 1.235' in lines[0] and '"start": 0.235' in lines[0]
    assert "windows" not in json.loads("\n".join(written("json", False)))[0]
    lines.clear()
    WRITERS["json"](lines.append, False).end()
    assert json.loads("\n".join(lines)) == []


def test_numbers_and_notes_are_as_long_as_a_reader_wants_them():
    """Of four scenes, three are named; shares have three digits in lines, six elsewhere."""
    found = Prediction(1.0, [0.0], torch.tensor([[0.1234567, 0.4, 0.3, 0.1765433]]), ("mixed", "resampled"))
    lines: dict[str, list[str]] = {form: [] for form in WRITERS}
    for form, into in lines.items():
        WRITERS[form](into.append, False).prediction(Path("a.wav"), [*SCENES, "tram"], found)
    assert lines["lines"] == ["a.wav\tmetro 0.400, park 0.300, tram 0.177\t(mixed; resampled)"]
    assert lines["csv"][1] == "a.wav,0.000,metro,mixed; resampled,,0.123457,0.400000,0.300000,0.176543"
    assert '"bus": 0.123457,' in lines["json"][0]


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"a b.wav", "a b.wav"), ("ä.wav".encode(), "ä.wav"), (b"a\nb.wav", "a\\nb.wav"), (b"\xff.wav", "\\xff.wav")],
)
def test_a_name_is_shown_on_one_line(name, text):
    assert shown(Path(os.fsdecode(name))) == text
