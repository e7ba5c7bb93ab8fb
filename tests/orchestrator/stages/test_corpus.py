"""The table of clips, its cuts into splits, and what of a corpus is refused."""

import csv
from dataclasses import replace

import pytest

from features.corpus import TRAIN, Clip, CorpusError
from features.cuts import cut_validation
from models.seeding import derive
from orchestrator.stages.computed import compute
from orchestrator.stages.corpus import check, layout_of, needs_responses, require_devices, require_scenes, tables_of
from orchestrator.stages.cuts import load_cuts


def test_what_is_fitted_on_is_training(small):
    clips = tables_of(small())[""]
    total = tables_of(small("corpus.fit_on=[train, validation]", "student.weights=[1, 1]"))[""]
    assert {clip.split for clip in total} == {"train", "test"}
    moved = [replace(clip, split=TRAIN) if clip.split == "validation" else clip for clip in clips]
    assert sorted(total, key=lambda clip: clip.path) == sorted(moved, key=lambda clip: clip.path)


def test_another_seed_cuts_another_validation_split(small):
    def validation(seed: int) -> set[str]:
        return {clip.path for clip in tables_of(small(f"seed={seed}"))[""] if clip.split == "validation"}

    assert validation(0) == validation(0)
    assert len({frozenset(validation(seed)) for seed in range(4)}) > 1


def test_validation_is_cut_by_a_seed_of_its_own(small, corpus):
    """Another one would cut every run's validation split anew."""
    config = small()
    clips = layout_of(config).read(corpus, config.corpus.taxonomy)
    own = cut_validation(clips, config.corpus.validation_fraction, derive(config.seed, "validation"))
    assert [clip.split for clip in tables_of(config)[""]] == [clip.split for clip in own]
    assert derive(0, "validation") == 4042900271888715735


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ([], False),
        (["copies.kinds=[noise]", "student.copies=true"], False),
        (["copies.kinds=[dir]", "student.copies=true"], True),
        (["spectrum.correct=true"], True),
    ],
)
def test_responses_are_measured_where_something_uses_them(small, settings, needed):
    assert needs_responses(small(*settings)) is needed
    assert check(small(*settings))


def test_a_scene_without_a_clip_is_named_with_its_split_and_fold(small):
    config = small()
    clips = [clip for clip in tables_of(config)[""] if (clip.split, clip.scene) != ("validation", "tram")]
    with pytest.raises(CorpusError, match=r"^the validation split has no clip of scene 'tram'$"):
        require_scenes(config, clips, "")
    with pytest.raises(CorpusError, match=r"^the validation split of fold2 has no clip of scene 'tram'$"):
        require_scenes(config, clips, "fold2")


def test_check_names_the_fold_that_lacks_a_scene(small, monkeypatch):
    clips = tables_of(small())[""]
    lacking = [clip for clip in clips if (clip.split, clip.scene) != ("validation", "tram")]
    monkeypatch.setattr("orchestrator.stages.corpus.tables_of", lambda config: {"": clips, "fold2": lacking})
    with pytest.raises(CorpusError, match=r"^the validation split of fold2 has no clip of scene 'tram'$"):
        check(small())


class TestValidation:
    def test_devices_that_are_left_out_are_validated_and_tested_but_not_trained_on(self, small, store):
        before, config = small(), small("validation.leave_out_devices=[b, s1]")
        usual, data = (load_cuts(one, compute(one, store, parallel=False), store)[0] for one in (before, config))
        assert {"b", "s1"} <= set(usual.train.devices) and not {"b", "s1"} & set(data.train.devices)
        kept = [
            path
            for path, device in zip(usual.train.paths, usual.train.devices, strict=True)
            if device not in ("b", "s1")
        ]
        assert list(data.train.paths) == kept
        assert data.validation.paths == usual.validation.paths and data.test.paths == usual.test.paths
        assert {"b", "s1"} <= set(data.validation.devices)

    def test_a_refit_trains_on_every_device(self, small):
        refit = ["corpus.fit_on=[train, validation]", "student.weights=[1, 1]", "validation.leave_out_devices=[b]"]
        assert {clip.split for clip in check(small(*refit))} == {"train", "test"}

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ("leave_out_devices=[z]", "no training clip is of 'z'; the corpus has a, b, c, s1, s2, s3$"),
            ("leave_out_devices=[s4]", "no training clip is of 's4'"),  # which only the test split has
            ("leave_out_devices=[a, b, c, s1, s2, s3]", "^validation.leave_out_devices leaves no training clip$"),
        ],
    )
    def test_what_cannot_be_left_out_is_one_line(self, small, settings, message):
        with pytest.raises(CorpusError, match=message):
            check(small(f"validation.{settings}"))

    def test_means_over_devices_need_devices(self, small, tmp_path, corpus):
        clips = tables_of(small())[""]
        rows = [
            {"path": clip.path, "scene": clip.scene, "split": clip.split, "location": clip.location} for clip in clips
        ]
        with (tmp_path / "table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["path", "scene", "split", "location"])
            writer.writeheader()
            writer.writerows(rows)
        nameless = [f"corpus.layout={{name: manifest, file: {tmp_path / 'table.csv'}}}"]
        check(small(*nameless))  # the default is over devices only where there are any
        with pytest.raises(
            CorpusError, match="^validation.mean_over is devices, but the corpus names none: set it to clips$"
        ):
            check(small(*nameless, "validation.mean_over=devices"))

    @pytest.mark.parametrize(
        ("devices", "setting", "message"),
        [
            (["", "", ""], "leave_out_devices=[z]", r"of 'z'; the corpus has no devices: set it to \[\]$"),
            (["", "a", "a"], "leave_out_devices=[z]", "of 'z'; the corpus has a$"),
            (["a", "a", ""], "mean_over=devices", "mean_over is devices, but the corpus names none"),
        ],
    )
    def test_devices_that_a_split_does_not_name_are_one_line(self, small, devices, setting, message):
        splits = ("train", "train", "validation")
        clips = [
            Clip(f"{split}.wav", "bus", split, split, device=device)
            for split, device in zip(splits, devices, strict=True)
        ]
        with pytest.raises(CorpusError, match=message):
            require_devices(small(f"validation.{setting}"), clips)
