"""A generated corpus in exactly the layout of TAU Urban Acoustic Scenes 2020 Mobile, for demonstrations and tests."""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile as sf

from features.corpus import CorpusError
from features.synthesis import CITIES, DEVICES, SAMPLE_RATE, SCENES, TRAIN_DEVICES, render


@dataclass(frozen=True)
class CorpusSize:
    """How much to generate. Raises ValueError for a number out of range."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    cities: int = 3
    """Number of cities, 1 to 10."""
    train_locations: int = 3
    """Training locations per city and scene."""
    test_locations: int = 1
    """Test locations per city and scene."""
    train_segments: int = 4
    """Segments per training location; device a records them all."""
    test_segments: int = 1
    """Segments per test location; all nine devices record them all."""
    parallel_every: int = 10
    """About one training segment in this many, one at least per city and scene, has devices b, c, s1 to s3 too."""
    seconds: float = 10.0
    """Length of a clip in seconds, 1 to 60."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = {"cities": len(CITIES), "seconds": 60}.get(name, 1000)
            if not 1 <= value <= most:
                raise ValueError(f"corpus size: {name} must be from 1 to {most}, not {value}")


def _segments(size: CorpusSize) -> Iterator[tuple[str, str, str, int, int, Sequence[str]]]:
    """Split, scene, city, location, segment and devices."""
    for (nth, scene), city in product(enumerate(SCENES), CITIES[: size.cities]):
        # A location's number is unique in its city, as in TAU: the last digit is the scene, the digits before
        # it are even in training and odd in test. Either split grows without renumbering.
        for place, segment in product(range(size.train_locations), range(size.train_segments)):
            devices = ("a",) if (place + segment) % size.parallel_every else TRAIN_DEVICES
            yield "train", scene, city, 20 * place + nth, segment, devices
        for place, segment in product(range(size.test_locations), range(size.test_segments)):
            yield "test", scene, city, 20 * place + 10 + nth, segment, tuple(DEVICES)


MARK = "generated.json"  # marks a corpus as generated, with the settings and the seed it was generated from
README = """\
# A generated corpus

Stillhouse (`features/generated.py`) generated the clips under audio/, in the layout of TAU Urban Acoustic Scenes
2020 Mobile, to exercise a pipeline from end to end. They are no recordings of the cities they name, and an
accuracy on them means nothing outside this corpus.

    size {size}
    seed {seed}
"""


def provenance(size: CorpusSize, seed: int) -> dict[str, Any]:
    """Everything that a generated corpus follows from."""
    return {"size": asdict(size), "seed": seed}


def generated_from(root: Path) -> dict[str, Any] | None:
    """The `provenance` of the corpus at `root`; None where its recordings are no generated ones.

    Raises CorpusError where that cannot be read.
    """
    mark = root / MARK
    if not mark.is_file():
        return None
    try:
        return json.loads(mark.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{mark} is damaged ({error}); remove the folder, and the corpus is generated again"
        ) from None


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = ["\t".join(row) + "\n" for row in (columns, *rows)]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def make_corpus(root: Path, size: CorpusSize, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> int:
    """Generate a corpus at `root` and return its number of clips. The same `size` and `seed` give the same bytes.

    It is made in a hidden folder beside `root` and renamed at the end: `root` is whole or not there at all.
    `progress` is called after each clip with the number of clips written and of all clips.
    Raises FileExistsError if `root` exists.
    """
    if root.exists():
        raise FileExistsError(f"{root} exists already: remove it or choose another folder for the corpus")
    # glibc hands blocks this large back to the kernel whenever they are freed, and faulting them in again costs
    # a quarter of the time; once it has freed one of nearly 32 MiB it keeps them.
    np.empty(31 * 2**20, np.uint8)
    total = sum(len(devices) for *_, devices in _segments(size))
    meta: list[tuple[str, str, str, str]] = []
    splits: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as beside:
        draft = Path(beside) / root.name
        setup = draft / "evaluation_setup"
        setup.mkdir(parents=True)
        (draft / "audio").mkdir()
        for split, scene, city, location, segment, devices in _segments(size):
            recordings = render(scene, city, location, segment, devices, size.seconds, seed)
            for device, recording in zip(devices, recordings, strict=True):
                name = f"audio/{scene}-{city}-{location}-{segment}-{device}.wav"
                # soundfile takes integers faster than floats, and hands a file its bytes in small pieces.
                wav = io.BytesIO()
                full_scale = (recording * np.float32(2**31)).astype(np.int32)
                sf.write(wav, full_scale, SAMPLE_RATE, subtype="PCM_24", format="WAV")
                (draft / name).write_bytes(wav.getbuffer())
                meta.append((name, scene, f"{city}-{location}", device))
                splits[split].append((name, scene))
                if progress:
                    progress(len(meta), total)
        labelled = ("filename", "scene_label")
        _write_table(draft / "meta.csv", (*labelled, "identifier", "source_label"), meta)
        _write_table(setup / "fold1_train.csv", labelled, splits["train"])
        _write_table(setup / "fold1_evaluate.csv", labelled, splits["test"])
        _write_table(setup / "fold1_test.csv", labelled[:1], [row[:1] for row in splits["test"]])
        readme = README.format(size=json.dumps(asdict(size)), seed=seed)
        (draft / "README.md").write_text(readme, encoding="utf-8", newline="\n")
        (draft / MARK).write_text(json.dumps(provenance(size, seed)) + "\n", encoding="utf-8", newline="\n")
        draft.rename(root)
    return total
