"""Each layout passes its settings on: what it reads, and what it leaves out."""

from pathlib import Path
from typing import Any

import pytest

from features.corpus import Clip
from features.taxonomy import Taxonomy
from orchestrator.config.corpus import FoldersSettings, ManifestSettings, TauSettings
from orchestrator.config.loading import load
from orchestrator.stages.corpus import left_out, unchecked
from orchestrator.stages.layouts import Folders, Manifest, Tau

PAIR = Taxonomy.from_groups({"all": ["bus", "park"]})


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_each_layout_says_what_names_locations():
    assert Tau.locations == "the column identifier of meta.csv"
    assert Folders.locations == "a group (?P<location>...) in corpus.layout.pattern"


def test_folders_are_cut_by_a_fraction_and_a_seed(tmp_path):
    touch(tmp_path, *(f"{scene}/{number}.wav" for scene in ("bus", "park") for number in range(8)))

    def tested(**settings: Any) -> frozenset[str]:
        layout = Folders(FoldersSettings(split_by="cut", **settings))
        return frozenset(clip.path for clip in layout.read(tmp_path, PAIR) if clip.split == "test")

    assert (len(tested()), len(tested(test_fraction=0.5))) == (4, 8)
    assert tested(seed=1) == tested(seed=1) and len({tested(seed=seed) for seed in range(4)}) > 1


def test_what_is_no_scene_of_the_experiment_is_named(tmp_path):
    touch(tmp_path, "bus/1.wav", "park/1.wav", "other/1.wav")
    folders = "corpus.layout={name: folders, split_by: cut}"
    groups = "corpus.groups={all: [bus, park]}"
    config = load("demo", [folders, f"corpus.root={tmp_path}", "corpus.generate=null", groups])
    assert left_out(config) == ["1 folder left out, which is no scene: other"]


def test_a_users_own_layout_need_not_say_what_names_locations(monkeypatch):
    monkeypatch.setattr("orchestrator.stages.corpus.layout_of", lambda config: object())
    text = unchecked(load("demo"), [Clip("a.wav", "bus", "train", "a.wav")])
    assert text and text.endswith("the corpus names none; a location for each clip would tell")


@pytest.mark.parametrize(
    ("pattern", "splits", "read", "lines"),
    [
        (
            r"(?P<split>\d)-(?P<location>\w+)-",
            {"train": ("1",), "test": ("2",)},
            [("bus/1-a-b.wav", "train", "a"), ("park/2-c-d.wav", "test", "c")],
            ["1 recording left out: their split is '3', which corpus.layout.splits does not have"],
        ),
        (
            r"(?P<split>\d)-",
            {"train": ("1", "3"), "test": ("2",)},
            [
                ("bus/1-a-b.wav", "train", "bus/1-a-b.wav"),
                ("park/2-c-d.wav", "test", "park/2-c-d.wav"),
                ("park/3-e-f.wav", "train", "park/3-e-f.wav"),
            ],
            [],
        ),
    ],
)
def test_folders(tmp_path, pattern, splits, read, lines):
    touch(tmp_path, "bus/1-a-b.wav", "park/2-c-d.wav", "park/3-e-f.wav")
    layout = Folders(FoldersSettings(pattern=pattern, splits=splits))
    assert [(clip.path, clip.split, clip.location) for clip in layout.read(tmp_path, PAIR)] == read
    assert len(layout.left_out(tmp_path, PAIR)) == len(lines)


def test_a_manifest(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "clips.csv").write_text("path,split,scene\na.wav,train,bus\nb.wav,test,park\n")
    layout = Manifest(ManifestSettings(file="clips.csv"))
    assert [(clip.path, clip.scene, clip.split) for clip in layout.read(tmp_path, PAIR)] == [
        ("a.wav", "bus", "train"),
        ("b.wav", "park", "test"),
    ]
    assert layout.left_out(tmp_path, PAIR) == []


def test_tau(tmp_path):
    bus, park = "audio/bus-x-1-1-a.wav", "audio/park-y-2-1-a.wav"
    touch(tmp_path, bus, park, "audio/other.wav")
    setup = tmp_path / "evaluation_setup"
    setup.mkdir()
    (tmp_path / "meta.csv").write_text(
        "filename\tscene_label\tidentifier\tsource_label\n"
        f"{bus}\tbus\tx-1\ta\n{park}\tpark\ty-2\ta\naudio/park-y-3-1-a.wav\tpark\ty-3\ta\n"
    )
    (setup / "fold1_train.csv").write_text(f"filename\tscene_label\n{bus}\tbus\n")
    (setup / "fold1_evaluate.csv").write_text(f"filename\tscene_label\n{park}\tpark\n")
    layout = Tau(TauSettings())
    assert [(clip.path, clip.split) for clip in layout.read(tmp_path, PAIR)] == [(bus, "train"), (park, "test")]
    assert layout.left_out(tmp_path, PAIR) == [
        "1 recording of meta.csv left out: no split names them",
        "1 file in audio/ left out: meta.csv does not name them",
    ]


@pytest.mark.parametrize(
    ("located", "text"),
    [
        (2, None),
        (1, "was NOT checked for 1 of 2 clips, which name none; a column location in the manifest would tell"),
        (0, "was NOT checked: the corpus names none; a column location in the manifest would tell"),
    ],
)
def test_what_was_not_checked_is_said_with_what_would_make_it_possible(tmp_path, located, text):
    touch(tmp_path, "a.wav", "b.wav")
    places = ["here", "there"][:located] + [""] * (2 - located)
    rows = [f"a.wav,train,bus,{places[0]}", f"b.wav,test,park,{places[1]}"]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,split,scene,location", *rows]) + "\n")
    groups = "corpus.groups={all: [bus, park]}"
    config = load("demo", ["corpus.layout=manifest", f"corpus.root={tmp_path}", "corpus.generate=null", groups])
    clips = Manifest(ManifestSettings()).read(tmp_path, PAIR)
    assert unchecked(config, clips) == (text and f"whether splits share a recording location {text}")
