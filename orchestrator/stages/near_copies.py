"""Recordings that two splits share though their bytes differ: found once, listed in the features' artifact."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from features.corpus import Clip
from features.fingerprint import NearCopy, near_copies_in
from features.precompute import Manifest
from orchestrator.storage.files import read_json, write_json

FILE = "near_copies.json"


def write_near_copies(folder: Path, manifest: Manifest, shards: Path, clips: Sequence[Clip]) -> None:
    """Look for them in all features. Raises DamagedShard and OSError."""
    front_end = manifest.front_end
    pairs = near_copies_in((shards / name for name in manifest.shards), (front_end.n_mels, front_end.frames), clips)
    write_json(folder / FILE, [asdict(pair) for pair in pairs])


def read_near_copies(folder: Path) -> list[NearCopy]:
    """Those that the features' artifact lists."""
    return [NearCopy(**pair) for pair in read_json(folder / FILE)]


def warn_of(pairs: Sequence[NearCopy], echo: Callable[[str], None]) -> None:
    """Print how many there are, and the first."""
    if pairs:
        one = pairs[0]
        count = "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
        echo(
            f"near copies: {count} of recordings in two splits sound the same, as {one.first} ({one.first_split}) and "
            f"{one.second} ({one.second_split}); unless chance, the numbers flatter"
        )
