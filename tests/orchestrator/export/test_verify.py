"""An export that is wrong does not pass."""

import math
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch

from models.prediction import EVALUATION_BATCH
from models.static import Static
from orchestrator.errors import UserError
from orchestrator.export import verify as verify_module
from orchestrator.export.verify import run_over
from orchestrator.export.verify import verify as verify_within

CLIPS = 40
STATIC = Static.of(torch.from_numpy(np.random.default_rng(0).random((CLIPS, 8, 20)).astype(np.float16)))

verify = partial(verify_within, largest_difference=1e-3)


class Linear:
    """A runnable model: probabilities from the mean of each mel bin. `wrong` is what is done to its outputs."""

    def __init__(self, wrong=lambda scene, group: (scene, group)) -> None:
        self.wrong = wrong

    def run(self, inputs):
        assert inputs.shape[1:] == (3, 8, 12)
        means = inputs[:, 0].mean(2)
        scene = means[:, :4] / means[:, :4].sum(1, keepdims=True)
        group = means[:, 4:6] / means[:, 4:6].sum(1, keepdims=True)
        return self.wrong(scene, group)


@pytest.fixture
def torchs() -> dict[str, np.ndarray]:
    (scene, group), _ = run_over(Linear(), STATIC)
    return {"scene": scene, "group": group}


def test_an_equal_file_passes_over_every_clip(torchs):
    verified = verify("tflite", Linear(), STATIC, torchs)
    assert verified.outputs["scene"].shape == (CLIPS, 4)
    assert verified.differences == {"scene": 0.0, "group": 0.0}


def test_the_largest_difference_is_measured(torchs):
    verified = verify(
        "tflite",
        Linear(lambda scene, group: (scene + np.float32(5e-4), group)),
        STATIC,
        torchs,
        largest_difference=1e-3,
    )
    assert verified.differences["scene"] == pytest.approx(5e-4, rel=1e-3)


def test_one_clip_beyond_the_limit_fails(torchs):
    def last(scene, group):
        return scene, np.where(np.arange(len(group))[:, None] == 7, group + np.float32(2e-3), group)

    with pytest.raises(UserError, match="tflite: output 'group' differs from torch by 0.002"):
        verify("tflite", Linear(last), STATIC, torchs)


def test_outputs_under_the_wrong_names_fail(torchs):
    with pytest.raises(UserError, match=r"output 'scene' has shape \(40, 2\), torch's has \(40, 4\)"):
        verify("onnx", Linear(lambda scene, group: (group, scene)), STATIC, torchs)


def test_not_a_number_fails(torchs):
    with pytest.raises(UserError, match="differs from torch by nan"):
        verify(
            "onnx",
            Linear(lambda scene, group: (scene * np.float32("nan"), group)),
            STATIC,
            torchs,
            largest_difference=1e-3,
        )


def test_shifts_are_averaged_as_torch_does():
    """A model that only hears the first frame says of shifts 0, 3 and 10 the mean of three frames."""

    class First:
        def run(self, inputs):
            return (inputs[:, 0, :, 0],)

    (heard,), _ = run_over(First(), STATIC, (0, 3, 10))
    frames = [(4 + shift) % 20 for shift in (0, 3, 10)]  # four frames are the deltas' context
    np.testing.assert_allclose(heard, STATIC.values.numpy().astype(np.float32)[:, :, frames].mean(2), rtol=1e-6)


def test_a_shift_takes_each_mel_bin_s_own_frames_from_its_other_end():
    class Last:
        def run(self, inputs):
            return (inputs[:, 0, :, -1],)

    (heard,), _ = run_over(Last(), STATIC, (0, 7))
    static = STATIC.values.numpy().astype(np.float32)
    np.testing.assert_allclose(heard, (static[:, :, 15] + static[:, :, 2]) / 2, rtol=1e-6)


def test_seconds_are_of_one_run_over_one_clip(monkeypatch):
    """By a clock that goes on by a second whenever it is read: so many seconds a call of the model."""
    monkeypatch.setattr(verify_module.time, "perf_counter", count().__next__)
    calls = math.ceil(CLIPS / EVALUATION_BATCH)
    for shifts in ((0,), (0, 3)):
        _, seconds = run_over(Linear(), STATIC, shifts)
        assert seconds == pytest.approx(calls / CLIPS)


def test_a_file_is_verified_over_shifted_clips_and_may_be_asked_to_be_equal(monkeypatch):
    monkeypatch.setattr(verify_module.time, "perf_counter", count().__next__)
    (scene, group), seconds = run_over(Linear(), STATIC, (0, 3))
    verified = verify("onnx", Linear(), STATIC, {"scene": scene, "group": group}, (0, 3), largest_difference=0.0)
    assert verified.differences == {"scene": 0.0, "group": 0.0}
    assert verified.seconds_per_clip == seconds > 0
