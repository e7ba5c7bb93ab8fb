"""Where windows lie, and what is said of each. tests/integration/test_chain.py predicts with a real file."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from features.spectrum import corrected
from orchestrator.errors import UserError
from orchestrator.export.formats import OUTPUTS
from orchestrator.export.predict import Predictor, others_in, recordings_in, side_by_side, starts_of


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


def test_folders_are_walked_and_hidden_files_left_out(tmp_path):
    for name in ("b/two.FLAC", "b/deep/three.opus", "one.wav", "._one.wav", ".cache/four.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in recordings_in(tmp_path)]
    assert found == ["b/deep/three.opus", "b/two.FLAC", "one.wav"]
    assert recordings_in(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]  # named: it is up to its content
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no recording \(\.wav, \.flac, "):
        recordings_in(tmp_path / "empty")


def test_what_a_folder_has_beside_recordings_is_counted(tmp_path):
    for name in ("a.wav", "b.m4a", "in/c.M4A", "in/README", ".hidden/d.m4a", "in/._e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert others_in([tmp_path, tmp_path / "a.wav"]) == {".m4a": 2, "without an ending": 1}


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
        self.names = tuple(outputs)
        assert model.read_bytes() == b"model"
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
    made = Predictor(tmp_path / "m.tflite")
    assert cast("Sure", made.interpreter).names == tuple(about.get("outputs", OUTPUTS))
    (row,) = made.predict(recording(tmp_path, 8000)).windows
    (scene,) = predictor().predict(tmp_path / "x.wav").windows
    joined = scene * torch.tensor(shares)
    assert row.tolist() == pytest.approx((joined / joined.sum()).tolist(), abs=1e-6)
    (tmp_path / "m.json").write_text(
        json.dumps(about | {"scenes": ["a", "b", "c"], "decision": "scene", "group_of_scene": []})
    )
    shape = r"\[1, 16, 55, 3\]"
    with pytest.raises(UserError, match=rf"one is of 2 scenes for inputs {shape}, the other of 3 for {shape}$"):
        Predictor(tmp_path / "m.tflite")


@pytest.mark.parametrize("missing", ["m.tflite", "m.json"])
def test_a_file_and_what_lies_beside_it_are_both_needed(tmp_path, missing):
    for name in {"m.tflite", "m.json"} - {missing}:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path / missing))} is not there; give the models/student"):
        Predictor(tmp_path / "m.tflite")


def test_a_recording_is_shifted_and_corrected_as_the_file_s_clips_were(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.export.predict.TFLiteModel", Sure)
    response, shifts = np.linspace(0.2, 2.0, 129), [0, 20]
    (tmp_path / "m.tflite").write_bytes(b"model")
    about = {"front_end": FRONT_END, "scenes": ["a", "b"], "responses": {"b": response.tolist()}}
    (tmp_path / "m.json").write_text(json.dumps(about | {"test_shifts": shifts}))
    made, file = Predictor(tmp_path / "m.tflite"), recording(tmp_path, 8000)
    heard = np.asarray(soundfile.read(file)[0], np.float32)
    for recorder, samples in (("b", corrected(heard, response.astype(np.float32))), ("c", heard), ("", heard)):
        static = static_channel(torch.from_numpy(samples), made.front_end).half().float()
        levels = [float(static.roll(-shift, 1)[:, 4:-4].mean()) for shift in shifts]
        assert float(made.predict(file, recorder).windows[0, 0]) == pytest.approx(np.mean(levels), abs=1e-5)


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


def test_no_more_recordings_are_begun_than_will_soon_be_written():
    class Fake:
        def predict(self, path: Path, recorder: str, hop: float | None) -> Path:
            return path

    def paths() -> Iterator[Path]:
        for number in range(100):
            taken.append(number)
            yield Path(str(number))

    taken: list[int] = []
    torch.set_num_threads(2)
    fakes: Any = [Fake(), Fake()]
    found: Any = side_by_side(paths(), fakes, "", None)
    path, future = next(found)
    assert path == future.result() == Path("0") and len(taken) == 9  # four for each of two, and the one that is due
    assert torch.get_num_threads() == 1
    found.close()


def test_who_stops_waits_for_what_is_under_way_alone(monkeypatch):
    begun: list[Path] = []
    stopped = threading.Event()

    class Fake:
        def predict(self, path: Path, recorder: str, hop: float | None) -> None:
            begun.append(path)
            assert path.name == "0" or stopped.wait(60.0)

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(False, cancel_futures=cancel_futures)
            stopped.set()
            super().shutdown(wait)

    monkeypatch.setattr("orchestrator.export.predict.ThreadPoolExecutor", Pool)
    fakes: Any = [Fake(), Fake()]
    found: Any = side_by_side([Path(str(number)) for number in range(100)], fakes, "", None)
    next(found)
    found.close()
    assert set(begun) <= {Path("0"), Path("1"), Path("2")}  # of nine that had been handed over
