"""The features of some clips, as the tests compare them: read through the map, as a training reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.corpus import Clip
from features.maps import locate


class Loaded(NamedTuple):
    """Those that are not in quarantine."""

    clips: tuple[Clip, ...]
    static: NDArray[np.float16]  # (clip, mel, frame)


def load(shards: Sequence[Path], clips: Sequence[Clip], shape: tuple[int, int]) -> Loaded:
    features, (row_of,) = locate([shards], shape)
    usable = tuple(clip for clip in clips if clip.path in row_of)
    return Loaded(usable, features.open()[[row_of[clip.path] for clip in usable]])
