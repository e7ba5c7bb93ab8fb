"""Changed waveforms against librosa's, and by what they must do to a tone."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.settings import Copies
from features.waveform import Material, changed, pitch_shift, time_stretch

RATE = 44_100
CLIP = 2 * RATE


def tone(frequency: float, count: int = CLIP) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(count) / RATE)).astype(np.float32)


def loudest(samples: np.ndarray) -> float:
    """The frequency of the spectrum's peak in Hz, of the middle half."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * len(middle)))
    return float(spectrum.argmax() * RATE / (8 * len(middle)))


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.0, 1.37, 2.0])
def test_stretching_changes_the_length_and_leaves_the_pitch(rate):
    stretched = time_stretch(tone(440), rate)
    assert len(stretched) == round(CLIP / rate)
    assert loudest(stretched) == pytest.approx(440, abs=1)
    assert np.abs(stretched[RATE // 4 : -RATE // 4]).max() == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize("semitones", [-4.0, -1.5, 0.0, 2.0, 4.0])
def test_a_shift_changes_the_pitch_and_leaves_the_length(semitones):
    shifted = pitch_shift(tone(440), semitones)
    assert abs(len(shifted) - CLIP) <= 2
    assert loudest(shifted) == pytest.approx(440 * 2 ** (semitones / 12), rel=2e-3)


@pytest.mark.parametrize("rate", [0.6, 1.7])
def test_stretched_noise_has_librosa_s_spectrum(rate):
    noise = np.random.default_rng(0).normal(0, 0.1, CLIP).astype(np.float32)
    ours = time_stretch(noise, rate)
    theirs = librosa.istft(librosa.phase_vocoder(librosa.stft(noise), rate=rate), length=len(ours))
    levels = [librosa.feature.melspectrogram(y=y, sr=RATE, n_mels=20).mean(1) for y in (ours, theirs)]
    np.testing.assert_allclose(10 * np.log10(levels[0] / levels[1]), 0, atol=0.5)


@settings(deadline=None, max_examples=20)
@given(kind=st.sampled_from(["pitch", "speed", "noise", "mix"]), seed=st.integers(0, 99))
def test_a_copy_is_of_the_clip_s_length_and_decided_by_its_seed(kind, seed):
    samples, partner = tone(300, 20_000), tone(500, 20_000)
    first, again = (changed(samples, kind, Copies(), np.random.default_rng(seed), Material(partner)) for _ in range(2))
    assert first.dtype == np.float32 and first.shape == samples.shape
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(
        first, changed(samples, kind, Copies(), np.random.default_rng(seed + 100), Material(partner))
    )


def test_noise_and_mix_are_what_they_say():
    silence, ones = np.zeros(CLIP, np.float32), np.ones(CLIP, np.float32)
    noisy = changed(silence, "noise", Copies(), np.random.default_rng(0), Material())
    assert noisy.std() == pytest.approx(0.01, rel=0.02)
    gains = [
        (
            changed(ones, "mix", Copies(), np.random.default_rng(seed), Material(silence))[0],
            changed(silence, "mix", Copies(), np.random.default_rng(seed), Material(ones))[0],
        )
        for seed in range(200)
    ]
    assert np.min(gains) >= 0.5 and np.max(gains) <= 1
    assert np.mean(gains, 0) == pytest.approx([0.75, 0.75], abs=0.05)
    assert abs(np.corrcoef(np.transpose(gains))[0, 1]) < 0.2


@pytest.mark.parametrize(
    "change",
    [{"kinds": ("mix", "mix")}, {"rates": (2.0, 0.5)}, {"gains": (0.0, 1.0)}, {"semitones": -1.0}, {"noise": -1.0}],
)
def test_impossible_copies_are_refused(change):
    with pytest.raises(ValueError, match=r"^copies\."):
        Copies(**change)
