"""The stage of the features: what it shows, and whom it waits for."""

import shutil
from typing import Any

import pytest

from features.caching import map_folder
from orchestrator.monitor import view as view_module
from orchestrator.stages import features
from orchestrator.stages.computed import compute
from orchestrator.stages.features import run
from orchestrator.storage.work import working
from tests.orchestrator.stages.test_check import mended
from tests.orchestrator.stages.test_features import torn

TEACHER = "model: {width: 2}, recipe: {cycle_ends: [1], crop_frames: 32}, ensemble: [1]"
TEACHERS = f"teachers={{one: {{{TEACHER}, copies: true}}, two: {{{TEACHER}}}}}"


@pytest.fixture
def nothing_mapped() -> None:
    """No map of another test with the same recordings."""
    for file in map_folder().glob("*"):
        file.unlink()


@pytest.mark.usefixtures("nothing_mapped")
def test_the_stage_says_what_was_made_and_what_was_there(small, corpus, tmp_path, context_of, shown):
    mended(corpus, tmp_path / "own")
    config = small(f"corpus.root={tmp_path / 'own'}", "copies.kinds=[noise, pitch]", "student.copies=true")
    context = context_of(config, "features")
    computed, folder = run(context)
    detail = f"{computed.manifest.clips} clips, copies: noise, pitch"
    assert context.view.of("features").folders == [folder]
    made = shown(context)[-1]
    assert made.startswith("+ features ") and made.endswith(f"s  {detail}")
    run(context)
    assert shown(context)[-1] == f"= features   reused  {detail}"
    shutil.rmtree(folder)  # shards and map are there
    run(context)
    made = shown(context)[-1]
    assert made.startswith("+ features ") and made.endswith(f"s  {detail}")


def test_without_copies_none_are_said(small, context_of, shown):
    context = context_of(small(), "features")
    computed, _ = run(context)
    assert shown(context)[-1].endswith(f"  {computed.manifest.clips} clips, 2 quarantined")


@pytest.mark.usefixtures("nothing_mapped")
def test_the_stage_shows_how_far_it_is(small, monkeypatch, context_of, shown):
    monkeypatch.setattr(view_module, "PLAIN_INTERVAL", -1.0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    context = context_of(small(), "features")
    computed, _ = run(context)
    lines = [line for line in shown(context) if line.startswith("  features: 0 %")]
    mapped, clips = computed.manifest.clips, len(computed.clips)
    assert lines == [f"  features: 0 %  0 of {clips} clips", f"  features: 0 %  0 of {mapped} clips mapped"]


def test_a_torn_page_that_the_stage_itself_meets_is_computed_again(small, store, context_of):
    config, told = small(), list[str]()
    store.tell = told.append
    files = [store.shards / name for name in compute(config, store, parallel=False).manifest.shards]
    whole = [file.read_bytes() for file in files]
    for file in files:
        torn(file)
    _, folder = run(context_of(config, "features"))
    assert told == [f"  shards/{file.name} is damaged and is computed again" for file in files]
    assert [file.read_bytes() for file in files] == whole and (folder / "near_copies.json").exists()


class Begun(Exception):
    """What the stage is broken off with where it begins."""


@pytest.fixture
def begins(monkeypatch) -> None:
    def begin(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(features, "compute", begin)


@pytest.mark.usefixtures("begins")
@pytest.mark.parametrize(
    ("settings", "is_same"),
    [
        ("student.recipe.batch_size=4", True),
        ("seed=1", True),
        ("corpus.validation_fraction=0.5", False),
        ("validation.folds=2", False),
        ("features.n_mels=48", False),
        ("spectrum.correct=true", False),
        ("copies.kinds=[noise] student.copies=true", False),
        ("copies.noise=0.02", False),
    ],
)
def test_a_run_waits_for_another_that_makes_the_same_features(small, store, context_of, settings, is_same):
    """Their work has one folder, whose lease one of them holds."""
    for of_run in ((), settings.split()):
        with pytest.raises(Begun):
            run(context_of(small(*of_run), "features"))
    assert len(list(store.root.glob("work/features/*"))) == (1 if is_same else 2)


@pytest.mark.usefixtures("begins")
def test_other_code_has_work_of_its_own(small, store, monkeypatch, context_of):
    for _ in range(2):
        with pytest.raises(Begun):
            run(context_of(small(), "features"))
        monkeypatch.setattr(features, "basis", lambda *_: ["other code"])
    assert len(list(store.root.glob("work/features/*"))) == 2


@pytest.mark.usefixtures("begins")
def test_copies_that_only_a_teacher_is_trained_on_which_does_not_label_are_not_made(small, store, context_of):
    settings = "copies.kinds=[noise]", TEACHERS
    for labels in ("[one, two]", "[two]"):
        with pytest.raises(Begun):
            run(context_of(small(*settings, f"student.teachers={labels}"), "features"))
    assert len(list(store.root.glob("work/features/*"))) == 2


@pytest.mark.usefixtures("begins")
def test_work_that_is_resumed_is_not_announced_as_begun_anew(small, store, context_of, shown):
    context = context_of(small(), "features")
    for _ in range(2):
        with pytest.raises(Begun):
            run(context)
        context.view.of("features").folders = list(store.root.glob("work/features/*"))
    assert len(context.view.of("features").folders) == 1 and shown(context) == ["> features"] * 2


@pytest.mark.usefixtures("begins")
def test_who_waits_for_the_features_shows_it_and_is_shown_how_far_they_are(small, monkeypatch, context_of):
    given: list[Any] = []

    def noted(store: Any, kind: str, key: str, waiting: Any, progress: Any) -> Any:
        given.append((kind, waiting.__func__, progress.__func__))
        return working(store, kind, key, waiting, progress)

    monkeypatch.setattr(features, "working", noted)
    with pytest.raises(Begun):
        run(context_of(small(), "features"))
    assert given == [("features", view_module.Bar.wait, view_module.Bar.so_far)]
