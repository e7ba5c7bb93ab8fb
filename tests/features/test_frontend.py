"""The features: log-mel beside librosa's, scaling, and deltas beside a hand's, numpy's and librosa's."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from features.audio import read
from features.frontend import delta, log_mel, mel_filters, static_channel, with_deltas
from features.settings import CHANNELS, CONTEXT, FrontEnd

DEFAULT = FrontEnd()
SETTINGS = [
    DEFAULT,
    FrontEnd(sample_rate=22_050, clip_seconds=3, n_fft=1024, hop_length=512, n_mels=64),
    FrontEnd(sample_rate=16_000, clip_seconds=1.5, n_fft=512, hop_length=160, n_mels=40),
    FrontEnd(sample_rate=32_000, clip_seconds=2, n_fft=800, hop_length=320, n_mels=128),  # some filters have one bin
]


def librosa_log_mel(samples: NDArray, settings: FrontEnd) -> NDArray:
    """From librosa alone, in float64."""
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
        htk=True,
        norm=None,
        dtype=np.float64,
    )
    return np.log(mel + 1e-8)


def clip(settings: FrontEnd, level: float = 0.05, seed: int = 0) -> NDArray[np.float32]:
    """Noise and a few tones for the length of a clip."""
    generator = np.random.default_rng(seed)
    time = np.arange(settings.samples) / settings.sample_rate
    tones = sum(np.sin(2 * np.pi * frequency * time) for frequency in generator.uniform(50, 7000, 3))
    return (level * (generator.normal(size=settings.samples) + tones)).astype(np.float32)


# Log-mel


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("level", [0.05, 1e-4])
def test_log_mel_is_librosa_s(settings, level):
    samples = clip(settings, level)
    ours = log_mel(torch.from_numpy(samples), settings)
    assert ours.dtype == torch.float32 and ours.shape == (settings.n_mels, settings.frames)
    np.testing.assert_allclose(ours, librosa_log_mel(samples, settings), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "scenes10s/park/berlin-9a12b4b8-0000s.flac",  # quiet, a little short
        "scenes10s/street_traffic",
        "originals/blanket-train.ogg",  # 24 kHz stereo Vorbis, nothing above its cut-off
        "originals/rivea0-walking-on-forest-road.mp3",
        "esc10/dog_bark/1-100032-A.ogg",  # 93 % digital silence
    ],
)
def test_log_mel_of_a_real_recording_is_librosa_s(shared_audio, name):
    path: Path = shared_audio / name
    if path.is_dir():
        path = min(path.iterdir())
    samples = read(path, DEFAULT.sample_rate, DEFAULT.clip_seconds).samples
    ours = log_mel(torch.from_numpy(samples), DEFAULT)
    np.testing.assert_allclose(ours, librosa_log_mel(samples, DEFAULT), rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_mel_filters_are_librosa_s(settings):
    ours = mel_filters(settings.n_fft, settings.n_mels, settings.sample_rate).to_dense()
    theirs = librosa.filters.mel(
        sr=settings.sample_rate, n_fft=settings.n_fft, n_mels=settings.n_mels, htk=True, norm=None, dtype=np.float64
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)


def test_a_tone_on_a_bin_has_the_power_of_the_window_s_sum():
    """A sinusoid of amplitude A on bin k: |X[k]| = A n_fft / 4 under Hann, half of that in the two bins beside it."""
    settings = FrontEnd()
    k = 400
    time = torch.arange(settings.samples, dtype=torch.float64)
    waveform = (0.5 * torch.sin(2 * torch.pi * k * time / settings.n_fft)).float()
    power = (0.5 * settings.n_fft / 4) ** 2
    filters = mel_filters(settings.n_fft, settings.n_mels, settings.sample_rate).to_dense()
    expected = filters[:, k] * power + (filters[:, k - 1] + filters[:, k + 1]) * power / 4
    middle = log_mel(waveform, settings)[:, 200].exp()
    torch.testing.assert_close(middle, expected + 1e-8, rtol=1e-4, atol=1e-4)
    # 8613 Hz is 2904 on HTK's scale, of 3921 up to Nyquist in 129 steps: between centres 95 and 96, counted from 1.
    assert set(middle.topk(2).indices.tolist()) == {94, 95}


def test_ten_times_louder_is_twenty_decibels_more():
    samples = torch.from_numpy(clip(DEFAULT))
    louder = log_mel(10 * samples, DEFAULT) - log_mel(samples, DEFAULT)
    torch.testing.assert_close(louder, torch.full_like(louder, float(np.log(100))), rtol=0, atol=1e-3)


def test_digital_silence_is_the_floor():
    torch.testing.assert_close(
        log_mel(torch.zeros(441_000), DEFAULT), torch.full((128, 431), float(np.log(1e-8))), rtol=0, atol=0
    )


def test_what_codecs_leave_beside_a_loud_band_is_not_lost_in_rounding():
    """A loud low tone and, 170 dB below it, a quiet high one, which float32's transform buries."""
    time = np.arange(441_000) / 44_100
    loud, quiet = 0.9 * np.sin(2 * np.pi * 100 * time), 1e-6 * np.sin(2 * np.pi * 15_000 * time)
    samples = (loud + quiet).astype(np.float32)
    ours = log_mel(torch.from_numpy(samples), DEFAULT)
    np.testing.assert_allclose(ours, librosa_log_mel(samples, DEFAULT), rtol=0, atol=1e-4)


# Frames


def test_ten_seconds_are_431_frames_and_423_with_deltas():
    assert (DEFAULT.samples, DEFAULT.frames) == (441_000, 431)
    static = static_channel(torch.from_numpy(clip(DEFAULT)), DEFAULT)
    assert static.shape == (128, 431)
    assert with_deltas(static[None]).shape == (1, CHANNELS, 128, 423)
    assert with_deltas(static.expand(5, -1, -1)[..., :408]).shape == (5, 3, 128, 400)  # the report's crop
    assert (CHANNELS, CONTEXT) == (3, 4)


@given(st.integers(1000, 6000), st.integers(16, 256), st.integers(8, 300))
def test_the_number_of_frames_is_known_before_the_transform(samples, half_window, hop):
    assume(samples // hop + 1 >= 9)
    settings = FrontEnd(1000, samples / 1000, 2 * half_window, hop, 4)
    assert settings.samples == samples
    assert log_mel(torch.zeros(samples), settings).shape == (4, settings.frames)


# Scaling


def test_minmax_scales_each_clip_to_zero_and_one():
    samples = clip(DEFAULT)
    raw = librosa_log_mel(samples, DEFAULT)
    scaled = static_channel(torch.from_numpy(samples), DEFAULT)
    assert (scaled.min().item(), scaled.max().item()) == (0, 1)
    np.testing.assert_allclose(scaled, (raw - raw.min()) / (raw.max() - raw.min()), rtol=0, atol=2e-5)


def test_level_scaling_is_the_same_for_all_clips():
    settings = FrontEnd(scaling="level")
    samples = clip(settings)
    expected = librosa_log_mel(samples, settings) / np.log(1e8) + 1  # 0 at 1e-8, 1 at 1
    np.testing.assert_allclose(static_channel(torch.from_numpy(samples), settings), expected, rtol=0, atol=2e-5)
    assert torch.equal(static_channel(torch.zeros(441_000), settings), torch.zeros(128, 431))


@pytest.mark.parametrize("value", [0.0, 1e-30, -1e-20])
def test_silence_is_zeros(value):
    assert torch.equal(static_channel(torch.full((441_000,), value), DEFAULT), torch.zeros(128, 431))


@pytest.mark.parametrize("level", [1e-6, 1e-4, 1.0, 1000.0])
def test_every_level_is_finite_and_within_range(level):
    samples = np.full(441_000, 0, np.float32)
    samples[100_000] = level  # one click
    scaled = static_channel(torch.from_numpy(samples), DEFAULT)
    assert torch.isfinite(scaled).all()
    assert scaled.min() >= 0 and scaled.max() <= 1


# Deltas

frames = st.integers(9, 40)


def random_frames(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_delta_by_hand():
    # (x[t+1] - x[t-1]) / 10 + (x[t+2] - x[t-2]) / 5 at t = 2, 3, 4
    x = torch.tensor([1.0, 0, 4, -2, 3, 7, 2])
    expected = [(-2 - 0) / 10 + (3 - 1) / 5, (3 - 4) / 10 + (7 - 0) / 5, (7 + 2) / 10 + (2 - 4) / 5]
    assert expected == pytest.approx([0.2, 1.3, 0.5])
    torch.testing.assert_close(delta(x), torch.tensor(expected))


def test_all_three_channels_are_of_the_same_frame():
    """The slope of t squared is 2 t, and of that 2: exactly, for a symmetric difference."""
    time = torch.arange(20.0)
    channels = with_deltas((time**2).expand(1, 1, 20))[0, :, 0]
    kept = time[4:-4]
    torch.testing.assert_close(channels, torch.stack([kept**2, 2 * kept, torch.full_like(kept, 2)]))


@given(st.integers(0, 999), frames)
def test_delta_is_a_convolution_on_the_valid_region(seed, count):
    x = random_frames(seed, count)
    kernel = np.array([2, 1, 0, -1, -2]) / 10  # convolution turns it round
    np.testing.assert_allclose(delta(x), np.convolve(x, kernel, "valid"), rtol=0, atol=1e-12)


@given(st.integers(0, 999), frames)
def test_deltas_are_librosa_s_in_the_interior(seed, count):
    x = random_frames(seed, 2, 6, count)
    ours = with_deltas(x)
    first = librosa.feature.delta(x.numpy(), width=5, order=1)
    np.testing.assert_allclose(ours[:, 1], first[..., 4:-4], rtol=0, atol=1e-12)
    second = librosa.feature.delta(first[..., 2:-2], width=5, order=1)
    np.testing.assert_allclose(ours[:, 2], second[..., 2:-2], rtol=0, atol=1e-12)
    assert torch.equal(ours[:, 0], x[..., 4:-4])


@given(st.integers(0, 999), frames, st.floats(0, 1))
def test_deltas_commute_with_mixing(seed, count, weight):
    one, other = random_frames(seed, 2, 3, 4, count)
    mixed = with_deltas(weight * one + (1 - weight) * other)
    torch.testing.assert_close(mixed, weight * with_deltas(one) + (1 - weight) * with_deltas(other))


@given(st.integers(0, 999), frames, st.data())
def test_a_crop_with_context_has_the_deltas_of_the_whole(seed, count, data):
    x = random_frames(seed, 2, 4, count)
    start = data.draw(st.integers(0, count - 9))
    length = data.draw(st.integers(1, count - 8 - start))
    crop = x[..., start : start + length + 2 * CONTEXT]
    assert torch.equal(with_deltas(crop), with_deltas(x)[..., start : start + length])


def test_deltas_carry_gradients_and_leave_their_input_alone():
    x = random_frames(0, 1, 2, 12).requires_grad_()
    before = x.detach().clone()
    with_deltas(x)[:, 1:].sum().backward()
    assert torch.equal(x.detach(), before)
    assert x.grad is not None and abs(x.grad.sum().item()) < 1e-12  # a constant has no slope


# Settings


@pytest.mark.parametrize(
    "wrong",
    [{"sample_rate": 0}, {"n_fft": 0}, {"hop_length": -1}, {"n_mels": 0}, {"clip_seconds": 0.0}, {"clip_seconds": -1}],
)
def test_settings_must_be_positive(wrong):
    with pytest.raises(ValueError, match=r"^features: rates, lengths and sizes must be positive and finite$"):
        FrontEnd(**wrong)


def test_a_clip_too_short_for_deltas():
    with pytest.raises(ValueError, match=r"^features: 0\.18 s give 8 frames; deltas alone need 9$"):
        FrontEnd(clip_seconds=0.18)
    assert FrontEnd(clip_seconds=0.19).frames == 9


def test_configuration_forbids_unknown_fields_and_scalings():
    adapter = TypeAdapter(FrontEnd)
    assert adapter.validate_python({"n_mels": 64}) == FrontEnd(n_mels=64)
    with pytest.raises(ValidationError, match="n_mel\n"):
        adapter.validate_python({"n_mel": 64})
    with pytest.raises(ValidationError, match="'minmax' or 'level'"):
        adapter.validate_python({"scaling": "zscore"})
