"""What `stillhouse predict` refuses, writes and returns, by predictors that take no time."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from features.audio import BadAudio
from features.settings import FrontEnd
from orchestrator.errors import UserError
from orchestrator.export.predict import predict
from orchestrator.export.writers import WRITERS, Prediction

BAD = {"bad": BadAudio("no samples"), "disk": OSError(errno.EIO, "Input/output error"), "odd": OSError("odd")}

type Ask = Callable[..., tuple[int, list[str]]]


class Stub:
    """In a Predictor's place: its notes are what it was asked; some recordings are bad."""

    made: Sequence["Stub"] = ()
    responses: Sequence[str] = ("b", "c")

    def __init__(self, model: Path) -> None:
        assert model == Path("m.tflite")
        self.front_end, self.scenes = FrontEnd(clip_seconds=1.0), ["a", "b"]
        Stub.made = [*Stub.made, self]

    def predict(self, path: Path, recorder: str, hop: float | None) -> Prediction:
        if path.stem in BAD:
            raise BAD[path.stem]
        return Prediction(1.0, [0.0], torch.tensor([[1.0, 0.0]]), (recorder, str(hop)))


@pytest.fixture
def ask(monkeypatch) -> Ask:
    """The exit code and the lines of recordings' predictions."""
    monkeypatch.setattr("orchestrator.export.predict.Predictor", Stub)
    monkeypatch.setattr(Stub, "made", ())

    def asked(names: Sequence[str], recorder: str = "", hop: float | None = None) -> tuple[int, list[str]]:
        lines: list[str] = []
        write = WRITERS["lines"](lines.append, False)
        return predict(Path("m.tflite"), [Path(name) for name in names], recorder, hop, write), lines

    return asked


def test_recordings_that_are_all_good_exit_0(ask):
    assert ask(["x.wav", "y.wav"], "b", 0.5) == (0, [f"{name}.wav\ta 1.000, b 0.000\t(b; 0.5)" for name in "xy"])


def test_each_bad_recording_has_its_reason_and_the_exit_code_is_2(ask):
    reasons = ["bad.wav\tno samples", "disk.wav\tInput/output error", "odd.wav\todd"]
    assert ask(["bad.wav", "disk.wav", "odd.wav", "x.wav"]) == (2, [*reasons, "x.wav\ta 1.000, b 0.000\t(; None)"])


@pytest.mark.parametrize("hop", [0.01, 1.0])
def test_a_hop_may_be_from_a_hundredth_of_a_second_to_a_window(ask, hop):
    assert ask(["x.wav"], "", hop)[0] == 0


@pytest.mark.parametrize("hop", [0.009, 1.01])
def test_a_hop_beyond_is_refused(ask, hop):
    with pytest.raises(UserError, match=f"^--hop must be from 0.01 to 1.0 s, the length of a window, not {hop}$"):
        ask(["x.wav"], "", hop)


@pytest.mark.parametrize(("known", "named"), [(("b", "c"), "b, c"), ((), "none")])
def test_an_unknown_recorder_is_refused_and_the_known_ones_named(ask, monkeypatch, known, named):
    monkeypatch.setattr(Stub, "responses", known)
    with pytest.raises(UserError, match=f"^m.tflite knows no response of recorder 'a'; it has {named}$"):
        ask(["x.wav"], "a")


@pytest.mark.parametrize(("cores", "recordings", "predictors"), [(3, 5, 3), (3, 2, 2), (3, 1, 1), (None, 5, 1)])
def test_each_core_that_has_work_has_a_predictor(ask, monkeypatch, cores, recordings, predictors):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert ask(["x.wav"] * recordings)[0] == 0 and len(Stub.made) == predictors
