"""Changed waveforms, for extra copies of the training set that are made once (Hu et al. 2020, task 1a; PAPER 2.3)."""

import math
from dataclasses import dataclass

import numpy as np
import soxr
import torch

from features.audio import fit_length
from features.settings import Copies, Kind
from features.spectrum import Response, Responses, Samples, convolved, filtered

TINY = 1e-6  # a response of zero would have no logarithm
N_FFT, HOP_LENGTH = 2048, 512  # of the phase vocoder


@dataclass(frozen=True)
class Material:
    """What some kinds of change need beside the clip itself."""

    partner: Samples | None = None  # "mix": another clip of the scene, of the same length
    responses: Responses | None = None  # "spectrum" and "dir": of devices


def changed(samples: Samples, kind: Kind, settings: Copies, random: np.random.Generator, material: Material) -> Samples:
    """A copy of `samples` (sample,), of one kind and the same length."""
    match kind:
        case "pitch":
            result = pitch_shift(samples, random.uniform(-settings.semitones, settings.semitones))
        case "speed":
            result = time_stretch(samples, random.uniform(*settings.rates))
        case "noise":
            result = samples + settings.noise * random.standard_normal(len(samples), np.float32)
        case "mix":
            assert material.partner is not None
            own, other = random.uniform(*settings.gains, 2)
            result = own * samples + other * material.partner
        case "spectrum":
            assert material.responses is not None
            result = filtered(samples, material.responses.of[random.choice(material.responses.others)])
        case "dir":
            assert material.responses is not None
            result = convolved(samples, blend(material.responses, settings.parts, random))
    return fit_length(result.astype(np.float32), len(samples), [])


def blend(responses: Responses, parts: tuple[float, float], random: np.random.Generator) -> Response:
    """A response of which each of two measured devices has a part, in decibels."""
    devices = random.choice(responses.others, 2)
    shares = random.uniform(*parts, 2)
    logs = [share * np.log(responses.of[name] + TINY) for name, share in zip(devices, shares, strict=True)]
    return np.exp(np.sum(logs, axis=0))


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
