"""Validation splits and folds, cut from the training split by whole locations."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from features.corpus import TRAIN, VALIDATION, Clip, CorpusError


def cut_validation(clips: Sequence[Clip], fraction: float, seed: int) -> list[Clip]:
    """Move whole locations from train to validation until it has `fraction` of each scene's train clips.

    Which ones depends on their names and the seed alone, so adding a location does not reshuffle the others.
    A corpus that brings its own validation split keeps it. Raises CorpusError where a scene has too few
    locations to lend one.
    """
    if any(clip.split == VALIDATION for clip in clips):
        return list(clips)
    left: dict[str, set[str]] = defaultdict(set)  # scene -> locations that training keeps
    scenes_at: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.split == TRAIN:
            left[clip.scene].add(clip.location)
            scenes_at[clip.location].add(clip.scene)
    chosen: set[str] = set()
    for scene in sorted({clip.scene for clip in clips}):
        sizes = Counter(clip.location for clip in clips if clip.split == TRAIN and clip.scene == scene)
        if len(sizes) < 2:
            raise CorpusError(f"scene '{scene}' has {len(sizes)} training locations; validation by location needs 2")
        wanted = fraction * sizes.total()
        have = sum(size for location, size in sizes.items() if location in chosen)
        for location in sorted(sizes, key=lambda name: rank(name, seed)):
            if have >= wanted:
                break
            # No scene, this or another that was recorded there, lends its last location.
            if location in chosen or any(len(left[other]) < 2 for other in scenes_at[location]):
                continue
            have += sizes[location]
            chosen.add(location)
            for other in scenes_at[location]:
                left[other].discard(location)
    return [
        replace(clip, split=VALIDATION) if clip.split == TRAIN and clip.location in chosen else clip for clip in clips
    ]


def cut_folds(clips: Sequence[Clip], folds: int, seed: int) -> list[list[Clip]]:
    """The table once for each of `folds` folds: its validation split is the fold, each training clip is in one.

    Scene by scene, the largest location first, each goes to the fold that has the fewest locations of the scene, and of
    those the fewest clips. Raises CorpusError where a scene has fewer training locations than there are folds.
    """
    if any(clip.split == VALIDATION for clip in clips):
        raise CorpusError("the corpus brings its own validation split: set validation.folds to 1")
    fold_of: dict[str, int] = {}
    for scene in sorted({clip.scene for clip in clips}):
        sizes = Counter(clip.location for clip in clips if clip.split == TRAIN and clip.scene == scene)
        if len(sizes) < folds:
            raise CorpusError(f"validation.folds is {folds}, but scene '{scene}' has {len(sizes)} training locations")
        filled: dict[int, tuple[int, int]] = dict.fromkeys(range(1, folds + 1), (0, 0))  # locations and clips
        for location in sorted(sizes, key=lambda name: (name not in fold_of, -sizes[name], rank(name, seed))):
            fold = fold_of.setdefault(location, min(filled, key=filled.__getitem__))
            filled[fold] = filled[fold][0] + 1, filled[fold][1] + sizes[location]
        if (0, 0) in filled.values():
            raise CorpusError(f"validation.folds is {folds}, but locations of scene '{scene}' are also of others")
    return [
        [
            replace(clip, split=VALIDATION) if clip.split == TRAIN and fold_of[clip.location] == fold else clip
            for clip in clips
        ]
        for fold in range(1, folds + 1)
    ]


def rank(name: str, seed: int) -> bytes:
    """Where a name stands in an order that is drawn by the seed and does not depend on the other names."""
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
