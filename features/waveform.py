"""Changed waveforms, for extra copies of the training set that are made once (Hu et al. 2020, task 1a; PAPER 2.3)."""

import math

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from features.audio import fit_length
from features.settings import Copies, Kind

Samples = NDArray[np.float32]
N_FFT, HOP_LENGTH = 2048, 512  # of the phase vocoder


def changed(samples: Samples, kind: Kind, settings: Copies, random: np.random.Generator, partner: Samples) -> Samples:
    """A copy of `samples` (sample,), of one kind and the same length. Only "mix" hears `partner`, of the same scene."""
    match kind:
        case "pitch":
            result = pitch_shift(samples, random.uniform(-settings.semitones, settings.semitones))
        case "speed":
            result = time_stretch(samples, random.uniform(*settings.rates))
        case "noise":
            result = samples + settings.noise * random.standard_normal(len(samples), np.float32)
        case "mix":
            own, other = random.uniform(*settings.gains, 2)
            result = own * samples + other * partner
    return fit_length(result.astype(np.float32), len(samples), [])


def time_stretch(samples: Samples, rate: float) -> Samples:
    """Faster (`rate` above 1) or slower at the same pitch, by torchaudio's phase vocoder: (sample / rate,)."""
    from torchaudio.functional import phase_vocoder

    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(
        torch.from_numpy(samples), N_FFT, HOP_LENGTH, window=window, pad_mode="constant", return_complex=True
    )
    advance = torch.linspace(0, math.pi * HOP_LENGTH, N_FFT // 2 + 1)[:, None]
    stretched = phase_vocoder(spectrum, rate, advance)
    length = round(len(samples) / rate)
    return torch.istft(stretched, N_FFT, HOP_LENGTH, window=window, length=length).numpy()


def pitch_shift(samples: Samples, semitones: float) -> Samples:
    """Higher or lower by `semitones` at the same speed: stretched, then played back at another rate; (sample,)."""
    ratio = 2 ** (semitones / 12)
    return soxr.resample(time_stretch(samples, 1 / ratio), ratio, 1)
