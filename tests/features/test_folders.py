"""Ordinary folders: splits above the scenes, or cut by a seed, and what is said where they do not fit."""

from collections import Counter
from pathlib import Path

import pytest

from features.corpus import CorpusError
from features.folders import Folders, left_out_of_folders, read_folders
from features.taxonomy import Taxonomy

PAIR = Taxonomy.from_groups({"all": ["bus", "cafe"]})
SPLITS = {"train": ["train"], "validation": ["dev"], "test": ["eval", "test"]}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_splits_in_folders_above_the_scenes(tmp_path):
    names = ["train/bus/a.wav", "train/cafe/b.flac", "dev/bus/c.wav", "eval/cafe/d.wav", "test/bus/e.ogg"]
    touch(tmp_path, *names, "old/bus/f.wav", "train/park/g.wav", "train/bus/notes.txt", "train/h.wav")
    how = Folders("", SPLITS, "folder")
    assert [(clip.path, clip.scene, clip.split) for clip in read_folders(tmp_path, how, PAIR)] == [
        ("dev/bus/c.wav", "bus", "validation"),
        ("eval/cafe/d.wav", "cafe", "test"),
        ("test/bus/e.ogg", "bus", "test"),
        ("train/bus/a.wav", "bus", "train"),
        ("train/cafe/b.flac", "cafe", "train"),
    ]
    assert left_out_of_folders(tmp_path, how, PAIR) == [
        "1 file .txt left out: no format that is read",
        "1 folder left out, which is no split: old",
    ]


def test_a_location_in_the_name_must_not_be_in_two_folders(tmp_path):
    touch(tmp_path, "train/bus/lunch-1.wav", "test/bus/lunch-2.wav", "test/cafe/x-1.wav", "train/cafe/y-1.wav")
    with pytest.raises(CorpusError, match="location 'lunch' is in test and train"):
        read_folders(tmp_path, Folders(r"(?P<location>\w+)-", SPLITS, "folder"), PAIR)


def test_a_cut_takes_whole_locations_of_each_scene_and_depends_on_the_seed(tmp_path):
    names = [f"{scene}/{place}-{number}.wav" for scene in ("bus", "cafe") for place in "abcdefgh" for number in (1, 2)]
    touch(tmp_path, *[name.replace("/", f"/{name[0]}") for name in names])

    def cut(seed: int, fraction: float = 0.25) -> list:
        return read_folders(tmp_path, Folders(r"(?P<location>\w+)-", {}, "cut", fraction, seed), PAIR)

    clips = cut(0)
    assert Counter((clip.scene, clip.split) for clip in clips) == {
        **{("bus", "train"): 12, ("cafe", "train"): 12, ("bus", "test"): 4, ("cafe", "test"): 4}
    }
    assert all(len({clip.split for clip in clips if clip.location == one}) == 1 for one in {c.location for c in clips})
    assert cut(0) == clips and any(cut(seed) != clips for seed in range(1, 5))
    assert Counter(clip.split for clip in cut(0, 0.5)) == {"train": 16, "test": 16}


def test_a_scene_with_one_recording_cannot_be_cut(tmp_path):
    touch(tmp_path, "bus/a.wav", "cafe/b.wav", "cafe/c.wav")
    with pytest.raises(CorpusError) as error:
        read_folders(tmp_path, Folders("", {}, "cut"), PAIR)
    assert str(error.value) == (
        "corpus.layout.split_by is cut: scene 'bus' has 1 training locations; a test split by location needs 2"
    )


@pytest.mark.parametrize(
    ("names", "split_by", "hint"),
    [
        (
            ["train/bus/a.wav", "test/cafe/b.wav"],
            "name",
            "are in its folders test, train: set corpus.layout.split_by to folder",
        ),
        (["bus/a.wav", "cafe/b.wav"], "name", "where no name tells a split, set corpus.layout.split_by to cut"),
        (["Bus/a.wav", "street/b.wav"], "name", "; it has Bus, street: name the scenes of corpus.groups or"),
        (
            ["bus/a_train.wav", "cafe/b_test.wav"],
            "name",
            r"; set corpus.layout.pattern to '\(\?:\[\^_\]\*_\)\{1\}\(\?P<split",
        ),
        (["bus/a.wav", "cafe/b.wav"], "folder", "where no name tells a split, set corpus.layout.split_by to cut"),
        (["train/bus/a.wav", "test/bus/b.wav"], "folder", "has no folder for scene 'cafe'$"),
        (
            ["bus/9-a.wav", "cafe/8-b.wav"],
            "name",
            "have the splits 8, 9, of which corpus.layout.splits has none .it has train, dev, eval, test.; where no",
        ),
        (["a.wav"], "cut", "has no folder for scene 'bus'$"),
    ],
)
def test_folders_that_do_not_fit_are_told_what_would(tmp_path, names, split_by, hint):
    touch(tmp_path, *names)
    with pytest.raises(CorpusError, match=hint):
        read_folders(tmp_path, Folders(r"(?P<split>\d)-" if split_by == "name" else "", SPLITS, split_by), PAIR)
