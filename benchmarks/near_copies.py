"""Near copies of real recordings: how many are found after each change, and how many strangers are taken for one.

The recordings are those of ../shared/audio. A copy is made of every clip, in every way; strangers are all pairs of
clips of different sources.
"""

import io
import sys
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.csv
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from features.audio import fit_length, read
from features.corpus import Clip
from features.decoding import decode
from features.fingerprint import Codes, fingerprint, near_copies, pairs_alike
from features.frontend import static_channel
from features.settings import FrontEnd

AUDIO = Path(__file__).parents[2] / "shared" / "audio"
SETS = {"esc10": FrontEnd(clip_seconds=5.0, n_mels=64), "scenes10s": FrontEnd()}
RATE = 44_100
FULL = 23_035  # clips of TAU 2020 Mobile

type Samples = NDArray[np.float32]


def codec(samples: Samples, container: str, subtype: str, rate: int = RATE) -> Samples:
    """What a strong compression leaves."""
    file = io.BytesIO()
    sound = soxr.resample(samples, RATE, rate) if rate != RATE else samples
    soundfile.write(file, sound, rate, format=container, subtype=subtype, compression_level=0.9)
    decoded = decode(file.getvalue())
    return soxr.resample(decoded.samples.mean(1), decoded.rate, RATE).astype(np.float32)


def noisy(samples: Samples) -> Samples:
    noise = np.random.default_rng(0).normal(0, 1, len(samples)).astype(np.float32)
    return (samples + 0.1 * np.sqrt((samples**2).mean()) * noise).astype(np.float32)


def narrow(samples: Samples) -> Samples:
    return soxr.resample(soxr.resample(samples, RATE, 16_000), 16_000, RATE).astype(np.float32)


CHANGES: dict[str, Callable[[Samples], Samples]] = {
    "Ogg Vorbis": lambda x: codec(x, "OGG", "VORBIS"),
    "Opus": lambda x: codec(x, "OGG", "OPUS", 48_000),
    "MP3": lambda x: codec(x, "MP3", "MPEG_LAYER_III"),
    "16 kHz and back": narrow,
    "12 dB quieter": lambda x: x * np.float32(0.25),
    "noise 20 dB below": noisy,
    "trimmed by 0.5 s": lambda x: x[RATE // 2 :],
    "trimmed by 1.31 s": lambda x: x[round(1.31 * RATE) :],
    "trimmed by 0.77 s, MP3": lambda x: codec(x[round(0.77 * RATE) :], "MP3", "MPEG_LAYER_III"),
}


def print_of(samples: Samples, front_end: FrontEnd) -> Codes:
    fitted = fit_length(samples.astype(np.float32, copy=False), front_end.samples, [])
    return fingerprint(static_channel(torch.from_numpy(fitted), front_end).half().numpy())


def table(names: Sequence[str], split: str) -> list[Clip]:
    return [Clip(f"{split}/{name}", "", split, name) for name in names]


def on_recordings(name: str, front_end: FrontEnd) -> None:
    rows = pyarrow.csv.read_csv(AUDIO / "MANIFEST.csv").to_pylist()
    source = {row["file"]: row["group"] for row in rows if row["file"].startswith(name)}
    sounds = {file: read(AUDIO / file, RATE, front_end.clip_seconds).samples for file in source}
    prints = {f"train/{file}": print_of(sound, front_end) for file, sound in sounds.items()}
    originals = table(list(source), "train")
    strangers = sum(source[one] != source[other] for one, other in combinations(source, 2))
    each_its_own = [str(number) for number in range(len(prints))]
    alike = pairs_alike(np.stack(list(prints.values())), each_its_own)
    files = list(source)
    taken = [(files[one], files[other], share) for (one, other), share in alike.items()]
    taken = [pair for pair in taken if source[pair[0]] != source[pair[1]]]
    print(f"\n{name}: {len(files)} clips; of {strangers:,} pairs of different sources {len(taken)} are near copies")
    for one, other, share in taken:
        print(f"  {Path(one).name} and {Path(other).name}: {share:.3f} of their bits differ")
    for change, apply in CHANGES.items():
        copies = {f"test/{file}": print_of(apply(sound), front_end) for file, sound in sounds.items()}
        found = near_copies(prints | copies, [*originals, *table(files, "test")])
        hits = sum(pair.first.removeprefix("train/") == pair.second.removeprefix("test/") for pair in found)
        print(f"  {change:<24}{hits:>4} of {len(files)} found")


def at_full_size() -> None:
    """Noise throughout: what takes longest, since its codes are by chance."""
    draw = np.random.default_rng(0)
    frames = FrontEnd().frames
    prints, taken = [], 0.0
    for _ in range(FULL):
        noise = draw.standard_normal((128, frames), np.float32).astype(np.float16)
        started = time.process_time()
        prints.append(fingerprint(noise))
        taken += time.process_time() - started
    made = time.process_time()
    splits = ["train" if row < 0.6 * FULL else "validation" if row < 0.75 * FULL else "test" for row in range(FULL)]
    found = pairs_alike(np.stack(prints), splits)
    searched = time.process_time() - made
    print(f"\n{FULL:,} clips of 10 s: fingerprints {taken:.1f} s, search {searched:.1f} s of a CPU; {len(found)} found")


def main(_: list[str]) -> None:
    if not (AUDIO / "MANIFEST.csv").is_file():
        sys.exit(f"{AUDIO} is not there: nothing real to measure on")
    torch.set_num_threads(1)
    for name, front_end in SETS.items():
        on_recordings(name, front_end)
    at_full_size()
