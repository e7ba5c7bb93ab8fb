"""What an export format is: how its file is written, run, and how far it may differ from torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.experiment import FORMATS, FormatSettings

OUTPUTS = ("scene", "group")
COMBINED = ("scene",)  # of the file that outputs the combined decision
INPUT_NAME = "features"

Outputs = tuple[NDArray[np.float32], ...]  # probabilities (clip, class), one for each output


class Runnable(Protocol):
    """A loaded file."""

    def run(self, inputs: NDArray[np.float32]) -> Outputs:
        """Probabilities (clip, class) of each output for inputs (clip, channel, mel, frame)."""
        ...


class Format(Protocol):
    """Made from its settings. Every format is written from the ONNX file that torch exports."""

    settings: FormatSettings
    suffix: str  # of its files' names

    def write(self, onnx: Path, path: Path) -> None:
        """Write `path` from an ONNX file whose input is INPUT_NAME (1, channel, mel, frame). Raises UserError."""
        ...

    def load(self, path: Path, outputs: Sequence[str]) -> Runnable:
        """The file, ready to run on one thread; `outputs` names what it returns, in order. Raises UserError."""
        ...


def formats_of(export: dict[str, Any]) -> dict[str, Format]:
    """The formats that an experiment's setting `export` names."""
    return {name: FORMATS.implementation(settings)(settings) for name, settings in export.items()}
