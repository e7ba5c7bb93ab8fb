"""Near copies: one recording under two names, encoded again, trimmed or made louder, found by its log-mel.

A fingerprint has one code a frame: the signs of how differences between neighbouring bands change over time, as
Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002), section 4.2. Bands are wider and means
over time longer than theirs, since a scene is noise and frames here do not overlap so much. Copies have codes in
common, which are looked up; those pairs are compared code by code at the lag that this gives.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.corpus import SPLITS, Clip
from features.store import read_shard

BITS = 24  # of a code
AUDIBLE = 0.7  # share of the mel bins that is used: above are what codecs cut off
MEAN = 16  # frames that are averaged, and frames between two that are compared
COMMON = 16  # clips' codes: one that is more frequent tells nothing
LEAST = 96  # codes that two clips must share, 2.2 s at the default hop: fewer are alike by chance
ALIKE = 0.3  # share of different bits below which two clips are near copies (docs/benchmarks.md)
GLANCE = 16  # codes that are compared first
CHUNK = 8192  # pairs that are compared at once

type Codes = NDArray[np.uint32]


@dataclass(frozen=True)
class NearCopy:
    """Two clips, of two splits, that hold one recording."""

    first: str  # path
    first_split: str
    second: str
    second_split: str
    different: float  # share of their bits; 0 is equal, 0.5 chance


def fingerprint(static: NDArray[np.float16]) -> Codes:
    """(code,) of a clip's static channel (mel, frame); 0 is silence.

    A clip of under 2 x MEAN frames has none, and none of under 36 mel bins: short codes are alike by chance.
    """
    used = static[: round(AUDIBLE * len(static))].astype(np.float32)
    if len(used) <= BITS:
        return np.empty(0, np.uint32)
    starts, sizes = bands_of(len(used))
    bands = np.add.reduceat(used, starts, axis=0) / sizes[:, None]
    sums = np.cumsum(np.pad(bands, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    means = sums[:, MEAN:] - sums[:, :-MEAN]  # (band, frame), times MEAN
    slopes = means[:-1] - means[1:]
    rising = slopes[:, MEAN:] - slopes[:, :-MEAN] > MEAN * 1e-4  # more than half precision's rounding
    signs = np.zeros((rising.shape[1], 32), bool)
    signs[:, : len(rising)] = rising.T
    return np.packbits(signs, axis=1, bitorder="little").view("<u4")[:, 0]


@cache
def bands_of(mels: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Where each band begins and how many bins it has: one band more than bits."""
    count = BITS + 1
    starts = np.arange(count) * mels // count
    return starts, np.diff(starts, append=mels).astype(np.float32)


def near_copies_in(shards: Iterable[Path], shape: tuple[int, int], clips: Sequence[Clip]) -> list[NearCopy]:
    """`near_copies` of clips whose features (mel, frame) = `shape` are in shards. Raises DamagedShard and OSError."""
    prints: dict[str, Codes] = {}
    for shard in shards:
        paths, static = read_shard(shard, shape)
        prints |= {path: fingerprint(channel) for path, channel in zip(paths, static, strict=True)}
    return near_copies(prints, clips)


def near_copies(prints: Mapping[str, Codes], clips: Sequence[Clip]) -> list[NearCopy]:
    """Pairs of clips in two splits that hold one recording, the training clip first.

    `prints` are fingerprints of equal length, by path.
    """
    printed = [clip for split in SPLITS for clip in clips if clip.split == split and clip.path in prints]
    splits = [clip.split for clip in printed]
    if len(set(splits)) < 2:
        return []
    found = pairs_alike(np.stack([prints[clip.path] for clip in printed]), splits)
    return [
        NearCopy(printed[one].path, splits[one], printed[other].path, splits[other], round(share, 3))
        for (one, other), share in found.items()
    ]


def pairs_alike(prints: Codes, splits: Sequence[str]) -> dict[tuple[int, int], float]:
    """The share of different bits of near copies, by the two clips' rows in `prints` (clip, code)."""
    length = prints.shape[1]
    if length < LEAST:
        return {}
    best: dict[tuple[int, int], float] = {}
    for first, second, lag in candidates(prints, np.unique(splits, return_inverse=True)[1]):
        glance = different(prints, first, second, lag, max(length // GLANCE, 1))
        keep = glance < (ALIKE + 0.5) / 2
        first, second, lag = first[keep], second[keep], lag[keep]
        shares = different(prints, first, second, lag, 1)
        for one, other, share in zip(first.tolist(), second.tolist(), shares.tolist(), strict=True):
            if share < min(ALIKE, best.get((one, other), 1.0)):
                best[one, other] = share
    return dict(sorted(best.items()))


def candidates(prints: Codes, split: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], ...]]:
    """Clips with a code in common, and by how many frames the second is late: (pair,) each, in chunks."""
    clips, length = prints.shape
    is_new = np.ones(prints.shape, bool)
    is_new[:, 1:] = prints[:, 1:] != prints[:, :-1]
    places = np.flatnonzero(is_new & (prints != 0))
    places = places[np.argsort(prints.reshape(-1)[places], kind="stable")]
    codes = prints.reshape(-1)[places]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    counts = np.diff(np.r_[starts, len(codes)])
    rare = np.repeat(counts <= COMMON, counts)
    places, codes = places[rare], codes[rare]
    found = list[NDArray[np.int64]]()
    for step in range(1, min(COMMON, len(codes))):
        same = codes[step:] == codes[:-step]
        first, second = places[:-step][same], places[step:][same]  # in the order of their clips
        one, other = first // length, second // length
        lag = second % length - first % length
        useful = (split[one] != split[other]) & (np.abs(lag) <= length - LEAST)
        found.append((one * clips + other)[useful] * 2 * length + (lag[useful] + length))
    keys = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    for start in range(0, len(keys), CHUNK):
        pair, lag = np.divmod(keys[start : start + CHUNK], 2 * length)
        yield pair // clips, pair % clips, lag - length


def different(
    prints: Codes, first: NDArray[np.intp], second: NDArray[np.intp], lag: NDArray[np.intp], step: int
) -> NDArray[np.float64]:
    """The share of bits in which each pair of clips differs, of every `step`-th code that both have. 1: too few."""
    length = prints.shape[1]
    here = np.arange(0, length, step)
    there = here + lag[:, None]
    inside = (there >= 0) & (there < length)
    one = prints[first][:, here]
    other = np.take_along_axis(prints[second], np.clip(there, 0, length - 1), axis=1)
    counted = inside & ((one | other) != 0)
    bits = np.where(counted, np.bitwise_count(one ^ other), 0).sum(1)
    count = counted.sum(1)
    return np.where(count * step >= LEAST, bits / np.maximum(count * BITS, 1), 1.0)
