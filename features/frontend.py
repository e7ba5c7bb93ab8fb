"""THE definition of the features, used by precompute, training and prediction.

Hu et al. 2020 (task 1a): power mel spectrogram, Hann, HTK scale without normalisation, ln(x + 1e-8), scaled to
[0, 1] per clip; then deltas and delta-deltas on the valid region.
"""

import math
import warnings
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from features.settings import CONTEXT, FrontEnd

LOG_FLOOR = 1e-8
BLOCK = 48  # frames transformed at a time: their spectra stay in the cache


def log_mel(waveform: Tensor, settings: FrontEnd) -> Tensor:
    """Float32 waveform (sample,) -> natural-log mel power (mel, frame) float32, librosa's within 1e-4.

    The transform is taken in float64: next to a loud band, float32's rounding is louder than what a codec
    leaves above its cut-off, and the logarithm shows it (7e-3 on a recording from Ogg Vorbis).
    """
    window = torch.hann_window(settings.n_fft, dtype=torch.float64)
    filters = mel_filters(settings.n_fft, settings.n_mels, settings.sample_rate)
    frames = F.pad(waveform, (settings.n_fft // 2,) * 2).unfold(0, settings.n_fft, settings.hop_length)
    # Buffers that every block uses again: fresh memory costs more than the transform (docs/lab-notes.md).
    windowed = torch.empty(BLOCK, settings.n_fft, dtype=torch.float64)
    spectrum = torch.empty(BLOCK, settings.n_fft // 2 + 1, dtype=torch.complex128)
    mel = torch.empty(settings.n_mels, len(frames))
    for start in range(0, len(frames), BLOCK):
        block = frames[start : start + BLOCK]
        rows = slice(len(block))
        torch.fft.rfft(windowed[rows].copy_(block).mul_(window), out=spectrum[rows])
        squares = torch.view_as_real(spectrum[rows]).float().square_()  # (frame, bin, 2)
        mel[:, start : start + BLOCK] = filters @ (squares[..., 0] + squares[..., 1]).T
    return mel.add_(LOG_FLOOR).log_()


@cache
def mel_filters(n_fft: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular HTK mel filters without normalisation, 0 Hz to Nyquist: sparse float32 (mel, bin).

    Computed in float64 (torchaudio's float32 ones are off by 1e-5, 1e-3 after the logarithm). Sparse, because
    a bin is in two filters at most: 98 % of the dense product is with zeros.
    """
    nyquist = torch.tensor(sample_rate / 2, dtype=torch.float64)
    top = 2595 * torch.log10(1 + nyquist / 700)
    edges = 700 * (10 ** (torch.linspace(0, float(top), n_mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, float(nyquist), n_fft // 2 + 1, dtype=torch.float64)
    lower, centre, upper = (edges[start : start + n_mels, None] for start in range(3))
    rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    weights = torch.minimum(rising, falling).clamp_min(0).float()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return weights.to_sparse_csr()


def static_channel(waveform: Tensor, settings: FrontEnd) -> Tensor:
    """Float32 waveform (sample,) -> the static channel (mel, frame) float32 that shards store."""
    values = log_mel(waveform, settings)
    if settings.scaling == "minmax":
        low, high = values.aminmax()
        # A constant clip (digital silence) has no range; it becomes zeros.
        return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).eps)
    floor = math.log(LOG_FLOOR)
    return (values - floor) / -floor


def delta(values: Tensor) -> Tensor:
    """Slope over 5 frames along the last axis, valid region only: (..., frame) -> (..., frame - 4)."""
    x = values
    return (x[..., 3:-1] - x[..., 1:-3]) / 10 + (x[..., 4:] - x[..., :-4]) / 5


def with_deltas(static: Tensor) -> Tensor:
    """(batch, mel, frame) -> (batch, 3, mel, frame - 8): static, delta and delta-delta of the same frames."""
    first = delta(static)
    second = delta(first)
    return torch.stack([static[..., CONTEXT:-CONTEXT], first[..., 2:-2], second], dim=1)
