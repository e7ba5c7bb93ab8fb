"""Settings of the front end. Without torch, so that a config is read in an instant."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

CHANNELS = 3  # static, delta, delta-delta
CONTEXT = 4  # frames on either side that deltas consume
# What nobody means; beyond it, memory would be asked for that no machine has.
MOST = {"sample_rate": 1_000_000, "n_fft": 2**20, "hop_length": 2**20, "n_mels": 4096, "clip_seconds": 3600.0}


@dataclass(frozen=True)
class FrontEnd:
    """Settings of the log-mel spectrogram (PAPER 2.1)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    sample_rate: int = 44_100  # Hz
    clip_seconds: float = 10.0  # shorter clips are repeated, longer ones cut
    n_fft: int = 2048  # samples of a window
    hop_length: int = 1024  # samples from one window to the next
    n_mels: int = 128  # mel bins
    # minmax: each clip to [0, 1] (Hu et al.); level: the same for all clips, 0 at the floor and 1 at power 1, which
    # keeps the information in a recording's level
    scaling: Literal["minmax", "level"] = "minmax"

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.n_fft, self.hop_length, self.n_mels) < 1 or not 0 < self.clip_seconds < math.inf:
            raise ValueError("features: rates, lengths and sizes must be positive and finite")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"features: {name} must be at most {most:,}, not {getattr(self, name):,}")
        if self.n_fft % 2:
            raise ValueError(f"features: n_fft must be even, not {self.n_fft}")
        if self.frames <= 2 * CONTEXT:
            raise ValueError(f"features: {self.clip_seconds} s give {self.frames} frames; deltas alone need 9")

    @property
    def samples(self) -> int:
        """Of a clip, at the front end's rate."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def frames(self) -> int:
        """Frames of the static channel: centred, so one more than the hops that fit."""
        return self.samples // self.hop_length + 1


@dataclass(frozen=True)
class Spectrum:
    """Spectrum correction (Kosmider 2019): devices' responses, measured on the training split's parallel recordings."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    reference: tuple[str, ...] = ("a",)  # devices; of several, the mean magnitude
    correct: bool = False  # make every recording of a measured device sound as the reference's

    def __post_init__(self) -> None:
        if not self.reference:
            raise ValueError("spectrum.reference must name a device")


Kind = Literal["pitch", "speed", "noise", "mix", "spectrum", "dir"]
BY_RESPONSE: tuple[Kind, ...] = ("spectrum", "dir")  # kinds that need devices' responses


@dataclass(frozen=True)
class Copies:
    """Extra copies of the training set, one of each kind, their parameters drawn per clip (Hu et al. 2020)."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kinds: tuple[Kind, ...] = ()  # of copies that are made, where a teacher or the student asks for copies
    semitones: float = 4.0  # pitch: uniform up to so many, up or down
    rates: tuple[float, float] = (0.5, 2.0)  # speed: uniform; the result is cut or repeated to the clip's length
    noise: float = 0.01  # noise: standard deviation, full scale is 1
    gains: tuple[float, float] = (0.5, 1.0)  # mix: uniform, for each of two clips of one scene
    # spectrum: recordings of the reference as another device would have made them (Kosmider 2019, as augmentation)
    # dir: any recording, through a device of which each of two measured ones is a part (after Morocutti et al. 2023,
    # who convolve with impulse responses of old microphones); the parts are uniform
    parts: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"copies.kinds must differ, not {list(self.kinds)}")
        for name in ("rates", "gains"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"copies.{name} must be 0 < low <= high, not {[low, high]}")
        if self.parts[0] > self.parts[1]:
            raise ValueError(f"copies.parts must be low <= high, not {list(self.parts)}")
        if not (0 <= self.semitones < math.inf and 0 <= self.noise < math.inf):
            raise ValueError("copies.semitones and copies.noise must not be negative, and finite")

    def parameters(self, kind: Kind) -> object:
        """The settings that a copy of one kind depends on."""
        return {
            "pitch": self.semitones,
            "speed": self.rates,
            "noise": self.noise,
            "mix": self.gains,
            "spectrum": None,
            "dir": self.parts,
        }[kind]
