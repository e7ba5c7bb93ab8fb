"""Extra copies of the training set: which change each clip gets. Everything follows from the seed and the paths."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.corpus import Clip
from features.settings import BY_RESPONSE, Copies, Kind
from features.spectrum import Responses, Samples
from features.waveform import Material, changed


@dataclass(frozen=True)
class Copy:
    """One copy of clips, all changed in one way, each with parameters of its own."""

    kind: Kind
    settings: Copies
    seed: int
    responses: Responses | None = None  # of devices, for the kinds that need them

    def __post_init__(self) -> None:
        assert (self.responses is not None) == (self.kind in BY_RESPONSE)

    @property
    def identity(self) -> tuple[object, ...]:
        """What the copy depends on, beside the recordings."""
        measured = () if self.responses is None else (self.responses.identity,)
        return self.kind, self.settings.parameters(self.kind), self.seed, *measured

    def of(self, path: str, samples: Samples, partner: Samples) -> Samples:
        """The clip at `path`, changed; `partner` are the samples of its partner, where it has one."""
        material = Material(partner, self.responses)
        return changed(samples, self.kind, self.settings, self.random("change", path), material)

    def clips(self, training: Sequence[Clip]) -> list[Clip]:
        """Which of the training clips are copied: all, or for "spectrum" those of the reference."""
        if self.kind != "spectrum" or self.responses is None:
            return list(training)
        return [clip for clip in training if clip.device in self.responses.reference]

    def partners(self, clips: Sequence[Clip]) -> dict[str, str]:
        """Path -> path of another clip of its scene, or itself where there is none; empty if no clip needs one."""
        if self.kind != "mix":
            return {}
        scenes: dict[str, list[str]] = {}
        for clip in sorted(clips, key=lambda clip: clip.path):
            scenes.setdefault(clip.scene, []).append(clip.path)
        found = {}
        for clip in clips:
            others = [path for path in scenes[clip.scene] if path != clip.path] or [clip.path]
            found[clip.path] = others[int(self.random("partner", clip.path).integers(len(others)))]
        return found

    def random(self, purpose: str, path: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *f"{self.kind} {purpose} {path}".encode()])
