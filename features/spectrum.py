"""Spectrum correction (Kosmider 2019; PAPER 2.3): what each device does to a sound, from parallel recordings.

Recordings of one segment by several devices differ by the devices alone. The ratio of their magnitude spectra is a
device's response relative to the reference; dividing by it makes a recording sound as the reference's, multiplying
makes one sound as that device's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from features.audio import BadAudio, read
from features.corpus import TRAIN, Clip, CorpusError
from features.settings import FrontEnd

Samples = NDArray[np.float32]
Response = NDArray[np.float32]  # (bin,), magnitude relative to the reference, bins from 0 Hz to Nyquist

QUIETEST = 1e-5  # of a magnitude, far below a recorder's noise; only digital silence is as quiet
PAIRS = 400  # a device at most: more change a response by less than 0.1 dB


@dataclass(frozen=True)
class Responses:
    """Of every device that has parallel recordings with a reference device; a reference's own is there too."""

    reference: tuple[str, ...]
    of: Mapping[str, Response]

    @property
    def identity(self) -> str:
        """The same for equal responses alone."""
        parts = [part for device in sorted(self.of) for part in (device.encode(), self.of[device].tobytes())]
        return xxhash.xxh3_64_hexdigest(b"/".join([",".join(self.reference).encode(), *parts]))

    @property
    def others(self) -> list[str]:
        """The devices that are no reference, in order."""
        return sorted(set(self.of) - set(self.reference))


def parallel_recordings(clips: Sequence[Clip], reference: Sequence[str]) -> dict[str, list[tuple[Clip, list[Clip]]]]:
    """Device -> (its recording, the references' recordings of the same segment), training clips alone.

    Raises CorpusError where there is none.
    """
    by_segment: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.split == TRAIN and clip.segment and clip.device:
            by_segment.setdefault(clip.segment, []).append(clip)
    pairs: dict[str, list[tuple[Clip, list[Clip]]]] = {}
    for together in by_segment.values():
        references = [clip for clip in together if clip.device in reference]
        if len({clip.device for clip in references}) == len(set(reference)) < len(together):
            for clip in together:
                pairs.setdefault(clip.device, []).append((clip, references))
    if not any(device not in reference for device in pairs):
        raise CorpusError(
            f"no training segment was recorded by {' and '.join(reference)} and another device at once: "
            "spectrum correction and device responses need parallel recordings; switch them off"
        )
    return dict(sorted(pairs.items()))


def estimate(root: Path, clips: Sequence[Clip], settings: FrontEnd, reference: Sequence[str]) -> Responses:
    """Each device's response: the mean over pairs of the ratio of the device's and the reference's mean magnitude.

    Means over frames come before the ratio: a mean of frames' ratios, as published, is 1.4 dB off where the reference
    happens to be near zero, this 0.05 dB (docs/lab-notes.md). With several reference devices, their mean magnitude is
    what recordings are compared with. Recordings that cannot be used are passed over. Raises CorpusError where there
    are no pairs.
    """
    found = {}
    for device, pairs in parallel_recordings(clips, reference).items():
        ratios = list(_ratios(root, pairs[:: math.ceil(len(pairs) / PAIRS)], settings))
        if ratios:
            found[device] = np.mean(ratios, axis=0).astype(np.float32)
    responses = Responses(tuple(reference), found)
    if not responses.others:
        raise CorpusError(f"no parallel recording of {' and '.join(reference)} and another device can be used")
    return responses


def _ratios(root: Path, pairs: Sequence[tuple[Clip, list[Clip]]], settings: FrontEnd) -> Iterator[Response]:
    for clip, references in pairs:
        try:
            own = _magnitude(root / clip.path, settings)
            theirs = np.mean([_magnitude(root / other.path, settings) for other in references], axis=0)
        except BadAudio:
            continue
        yield (own + QUIETEST) / (theirs + QUIETEST)


def _magnitude(path: Path, settings: FrontEnd) -> Response:
    """Mean over frames."""
    samples = torch.from_numpy(read(path, settings.sample_rate, settings.clip_seconds).samples)
    window = torch.hann_window(settings.n_fft)
    spectrum = torch.stft(samples, settings.n_fft, settings.hop_length, window=window, return_complex=True)
    return spectrum.abs().mean(1).numpy()


def filtered(samples: Samples, response: Response) -> Samples:
    """`samples` (sample,) with every frequency's magnitude times `response`, phases as they were; circular."""
    spectrum = np.fft.rfft(samples)
    place = np.linspace(0, len(response) - 1, len(spectrum))
    return np.fft.irfft(spectrum * np.interp(place, np.arange(len(response)), response), len(samples)).astype(
        np.float32
    )


def corrected(samples: Samples, response: Response) -> Samples:
    """`samples` of a device of `response`, as the reference would have recorded them."""
    return filtered(samples, (1 / np.maximum(response, 1e-3)).astype(np.float32))


def minimum_phase(response: Response) -> NDArray[np.float32]:
    """The impulse response (2 * (bin - 1),) whose magnitude is `response` and whose energy comes first.

    By the real cepstrum, folded to positive times (Oppenheim & Schafer, Discrete-Time Signal Processing, 13.5).
    """
    cepstrum = np.fft.irfft(np.log(np.maximum(response, 1e-5)))
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2
    cepstrum[half + 1 :] = 0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum))).astype(np.float32)


def convolved(samples: Samples, response: Response) -> Samples:
    """`samples` as a device of `response` plays them on in time: convolved with its minimum-phase impulse response."""
    impulse = minimum_phase(response)
    size = len(samples) + len(impulse) - 1
    product = np.fft.rfft(samples, size) * np.fft.rfft(impulse, size)
    return np.fft.irfft(product, size)[: len(samples)].astype(np.float32)
