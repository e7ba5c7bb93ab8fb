"""Where windows lie, and predictions as text. tests/integration/test_chain.py predicts with a real file."""

import csv
import json
import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.audio import BadAudio
from features.frontend import static_channel
from features.settings import FrontEnd
from orchestrator.errors import UserError
from orchestrator.export.formats import OUTPUTS
from orchestrator.export.predict import Predictor, others_in, recordings_in, side_by_side, starts_of
from orchestrator.export.tflite import without_notices
from orchestrator.export.writers import WRITERS, Prediction, shown

SCENES = ["bus", "metro", "park"]
TWO = Prediction(1.5, [0.0, 0.5], torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.75, 0.25]]), ("resampled from 8000 Hz",))
ONE = Prediction(1.0, [0.0], torch.tensor([[0.0, 0.0, 1.0]]), ())


@pytest.mark.parametrize(
    ("length", "window", "hop", "starts"),
    [
        (10, 10, 5, [0]),
        (20, 10, 5, [0, 5, 10]),
        (21, 10, 5, [0, 5, 10, 11]),  # the last one ends with the recording
        (14, 10, 10, [0, 4]),
        (12, 10, 1, [0, 1, 2]),
    ],
)
def test_windows_by_hand(length, window, hop, starts):
    assert starts_of(length, window, hop) == starts


@given(st.integers(1, 50), st.integers(0, 500), st.data())
def test_windows_cover_the_recording_without_a_gap(window, more, data):
    hop = data.draw(st.integers(1, window))
    starts = starts_of(window + more, window, hop)
    assert starts[0] == 0 and starts[-1] == more
    assert all(0 < later - earlier <= hop for earlier, later in pairwise(starts))


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
    first, bad, last = csv.DictReader(written("csv", False))
    assert first == {
        "path": "a.wav",
        "start": "0.000",
        "scene": "metro",
        "notes": "resampled from 8000 Hz",
        "refused": "",
        "bus": "0.250000",
        "metro": "0.500000",
        "park": "0.250000",
    }
    assert (bad["path"], bad["refused"], bad["scene"], bad["park"]) == ("b,c.wav", "no samples", "", "")
    assert last["scene"] == "park"
    assert [row["start"] for row in csv.DictReader(written("csv", True))] == ["0.000", "0.500", "", "0.000"]


def test_a_csv_whose_first_recordings_are_bad_has_its_columns():
    lines: list[str] = []
    writer = WRITERS["csv"](lines.append, False)
    writer.refused(Path("b.wav"), "no samples")
    writer.prediction(Path("d.wav"), SCENES, ONE)
    bad, good = csv.DictReader(lines)
    assert bad["refused"] == "no samples" and good["scene"] == "park" and good["park"] == "1.000000"


def test_json():
    first, bad, last = json.loads("\n".join(written("json", True)))
    assert first["scene"] == "metro" and first["seconds"] == 1.5 and first["notes"] == ["resampled from 8000 Hz"]
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


def test_folders_are_walked_and_hidden_files_left_out(tmp_path):
    for name in ("b/two.FLAC", "b/deep/three.opus", "one.wav", "._one.wav", ".cache/four.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in recordings_in(tmp_path)]
    assert found == ["b/deep/three.opus", "b/two.FLAC", "one.wav"]
    assert recordings_in(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]  # named: it is up to its content
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no recording"):
        recordings_in(tmp_path / "empty")


def test_what_a_folder_has_beside_recordings_is_counted(tmp_path):
    for name in ("a.wav", "b.m4a", "in/c.M4A", "in/README", ".hidden/d.m4a", "in/._e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert others_in([tmp_path, tmp_path / "a.wav"]) == {".m4a": 2, "without an ending": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"a b.wav", "a b.wav"), ("ä.wav".encode(), "ä.wav"), (b"a\nb.wav", "a\\nb.wav"), (b"\xff.wav", "\\xff.wav")],
)
def test_a_name_is_shown_on_one_line(name, text):
    assert shown(Path(os.fsdecode(name))) == text


class Loudest:
    """A model that says of a window what its loudest sample is, scaled to a probability."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        self.batches.append(len(inputs))
        level = inputs[:, 0].mean((1, 2))
        return (np.stack([level, 1 - level], 1).astype(np.float32),)


RATE, SECONDS = 8000, 1.0


def predictor() -> Predictor:
    """Windows of 1 s, decided by a fake file."""
    made = Predictor.__new__(Predictor)
    made.front_end = FrontEnd(sample_rate=RATE, clip_seconds=SECONDS, n_fft=256, hop_length=128, n_mels=16)
    made.scenes, made.responses, made.shifts, made.group_of_scene, made.is_combined = ["a", "b"], {}, [0], [], False
    made.interpreter = Loudest()  # pyright: ignore[reportAttributeAccessIssue]
    return made


def recording(folder: Path, samples: int) -> Path:
    noise = np.random.default_rng(samples).normal(0, 0.1, samples) * np.linspace(0.1, 1, samples)
    soundfile.write(folder / "x.wav", noise, RATE, subtype="FLOAT")
    return folder / "x.wav"


@pytest.mark.parametrize(
    ("samples", "hop", "starts"),
    [
        (4000, None, [0.0]),  # repeated
        (8000, None, [0.0]),
        (8007, None, [0.0]),  # a codec's padding
        (8008, None, [0.0, 0.001]),
        (20_000, None, [0.0, 0.5, 1.0, 1.5]),  # half a window
        (20_000, 1.0, [0.0, 1.0, 1.5]),
        (20_000, 0.25, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]),
    ],
)
def test_a_recording_is_predicted_window_by_window(tmp_path, monkeypatch, samples, hop, starts):
    monkeypatch.setattr("orchestrator.export.predict.WINDOWS", 3)
    made = predictor()
    done = made.predict(recording(tmp_path, samples), hop=hop)
    assert done.starts == starts and done.seconds == samples / RATE and done.windows.shape == (len(starts), 2)
    batches = cast("Loudest", made.interpreter).batches
    assert batches == [3] * (len(starts) // 3) + [len(starts) % 3] * bool(len(starts) % 3)
    assert ("tiled from 4000 to 8000 samples" in done.notes) is (samples == 4000)
    heard = soundfile.read(tmp_path / "x.wav", dtype="float32")[0]
    for start, row in zip(starts, done.windows, strict=True):
        window = np.resize(heard, RATE) if samples < RATE else heard[round(start * RATE) :][:RATE]
        static = static_channel(torch.from_numpy(window), made.front_end).half().float()
        assert row.tolist() == pytest.approx([static[:, 4:-4].mean(), 1 - static[:, 4:-4].mean()], abs=1e-3)


class Sure(Loudest):
    """A file of two classifiers: of groups it says the same of every window."""

    def __init__(self, model: Path, outputs: Sequence[str]) -> None:
        super().__init__()
        assert model.read_bytes() == b"model" and tuple(outputs) in (("scene",), OUTPUTS)
        shape = np.array([1, MELS, FrontEnd(**FRONT_END).frames - 8, 3])
        self.input, self.outputs = {"shape": shape}, [{"shape": np.array([1, 2])}]

    def run(self, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        scene, *_ = super().run(inputs)
        return scene, np.tile(np.array([0.9, 0.1], np.float32), (len(scene), 1))


MELS = 16
FRONT_END = {"sample_rate": RATE, "clip_seconds": SECONDS, "n_fft": 256, "hop_length": 128, "n_mels": MELS}
GROUPS = {"groups": ["x", "y"], "group_of_scene": [1, 0]}


@pytest.mark.parametrize(
    ("facts", "shares"),
    [
        ({}, (1, 1)),
        ({"decision": "scene", **GROUPS, "outputs": ["scene"]}, (1, 1)),
        ({"decision": "combined", **GROUPS}, (0.1, 0.9)),  # scene a is of group y
    ],
)
def test_a_file_is_read_as_what_lies_beside_it_says(tmp_path, monkeypatch, facts, shares):
    monkeypatch.setattr("orchestrator.export.predict.TFLiteModel", Sure)
    (tmp_path / "m.tflite").write_bytes(b"model")
    about = {"front_end": FRONT_END, "scenes": ["a", "b"], **facts}
    (tmp_path / "m.json").write_text(json.dumps(about))
    (row,) = Predictor(tmp_path / "m.tflite").predict(recording(tmp_path, 8000)).windows
    (scene,) = predictor().predict(tmp_path / "x.wav").windows
    joined = scene * torch.tensor(shares)
    assert row.tolist() == pytest.approx((joined / joined.sum()).tolist(), abs=1e-6)
    (tmp_path / "m.json").write_text(
        json.dumps(about | {"scenes": ["a", "b", "c"], "decision": "scene", "group_of_scene": []})
    )
    with pytest.raises(UserError, match=r"do not belong together: one is of 2 scenes .* the other of 3"):
        Predictor(tmp_path / "m.tflite")


def test_recordings_are_predicted_side_by_side_and_come_in_their_order():
    together = threading.Barrier(2)

    class Fake:
        def predict(self, path: Path, recorder: str, hop: float | None) -> tuple[Path, str, float | None]:
            if path.name in ("0", "1"):
                together.wait(60.0)  # so both are under way at once
            if path.name == "5":
                raise BadAudio("not a sound file")
            return path, recorder, hop

    fakes: Any = [Fake(), Fake()]
    paths = [Path(str(number)) for number in range(30)]
    found = list(side_by_side(paths, fakes, "a", 0.5))
    assert [path for path, _ in found] == paths
    for path, future in found:
        if path.name == "5":
            with pytest.raises(BadAudio):
                future.result()
        else:
            assert future.result() == (path, "a", 0.5)


def test_notices_of_native_code_are_held_back_and_nothing_else(capfd):
    with without_notices():
        os.write(2, b"INFO: Created a delegate\nERROR: no memory\n")
        os.write(2, b"another line\n")
    os.write(2, b"INFO: afterwards\n")
    assert capfd.readouterr().err == "ERROR: no memory\nanother line\nINFO: afterwards\n"
