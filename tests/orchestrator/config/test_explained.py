"""Every setting is explained, from the code, and by the name that a person gives."""

import pytest

from orchestrator.config.experiment import to_yaml
from orchestrator.config.explained import commented, explain, settings
from orchestrator.config.loading import load, presets
from orchestrator.config.plain_yaml import parse_yaml
from orchestrator.errors import UserError


def test_every_setting_says_what_it_is_for():
    assert [one.name for one in settings() if not one.about] == []
    assert all(one.kind and "\n" not in one.line for one in settings())


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("features.sample_rate", "features.sample_rate: whole number, default 44100; Hz"),
        ("student.recipe.mixup_alpha", "student.recipe.mixup_alpha: number, default 0.4; 0: no mixup"),
        (
            "student.recipe.soft_weight",  # the student's default, not the recipe's own
            "student.recipe.soft_weight: number, default 0.5; of the distillation loss; the labels' cross-entropy has "
            "the rest",
        ),
        (
            "teachers.wide.ensemble",
            "teachers.NAME.ensemble: list of: whole number; the cycle ends whose snapshots vote (PAPER 2.3: 254 and "
            "510)",
        ),
        (
            "search.stopping.least",
            "search.stopping.least (of median): whole number, default 5; trials that must be there to compare with",
        ),
        ("corpus.generate.cities", "corpus.generate.cities: whole number, default 3; Number of cities, 1 to 10."),
        ("select_by", "select_by: log_loss | accuracy, default log_loss; on validation: trials, averages"),
        (
            "student.weights",
            "student.weights: list of: number, or null, default null; of the average, chosen by an earlier run; None: "
            "tried on validation",
        ),
    ],
)
def test_a_setting_by_its_name(key, line):
    (found,) = explain(key)
    assert found.line == line


def test_a_section_has_all_that_is_below_it():
    names = [one.name for one in explain("validation")]
    assert names == ["validation", *(f"validation.{name}" for name in ("mean_over", "folds", "leave_out_devices"))]
    (sampler, population) = explain("search.sampler")
    assert sampler.kind == "one of tpe, gp, sobol, random, nsga2, or package.module:Name" and sampler.default == "tpe"
    assert (population.name, population.row, population.default) == ("search.sampler.population", "nsga2", "8")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("temperature", "; there is teachers.NAME.recipe.temperature, student.recipe.temperature"),
        ("student.recipe.temperatur", "; did you mean 'student.recipe.temperature'?"),
        ("zzz", ""),
    ],
)
def test_an_unknown_key_is_one_line_with_a_way_out(key, hint):
    with pytest.raises(UserError) as error:
        explain(key)
    assert str(error.value) == f"no setting '{key}'{hint}; `stillhouse config explain` shows all"


@pytest.mark.parametrize("name", ["demo", "esc10", "dcase2021"])
def test_a_shown_experiment_is_the_same_with_its_comments(name):
    text = to_yaml(load(name))
    shown = commented(text)
    assert parse_yaml(shown, "shown") == parse_yaml(text, "plain")
    assert "  mixup_alpha: " in shown and sum("  # " in line for line in shown.splitlines()) > 80


def test_presets_are_listed_with_what_they_are():
    found = presets()
    assert found["demo"].startswith("The whole chain in minutes, on a generated corpus.") and len(found) >= 9


def test_null_takes_a_teacher_or_a_dimension_away(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("extends: demo\nname: mine\nteachers: {narrow: null}\n")
    assert list(load(str(file)).teachers) == ["wide"] == list(load("demo", ["teachers.narrow=null"]).teachers)
    without = ["teachers.narrow=null", "teachers.wide=null", "student.recipe.soft_weight=0"]
    none = load("demo", [*without, "search.space.recipe.soft_weight=null", "search.space.recipe.temperature=null"])
    assert none.teachers == {}
    search = load("demo", ["search.space.recipe.temperature=null"]).search
    assert search is not None and "recipe.temperature" not in search.space and len(search.space) == 3
    with pytest.raises(
        UserError, match="teachers.narow=null: nothing of that name to take away; did you mean 'narrow'"
    ):
        load("demo", ["teachers.narow=null"])


def test_without_groups_the_decision_is_the_scene_s_unless_the_file_says_otherwise():
    without = ["corpus.groups=null", "corpus.scenes=[bus, park]"]
    assert load("demo", without).decision == "scene" and load("demo").decision == "combined"
    with pytest.raises(UserError, match="nothing can be combined: set decision to scene"):
        load("demo", [*without, "decision=combined"])


def test_a_misspelt_teacher_of_a_setting_is_named_and_a_new_one_is_set_as_a_whole():
    with pytest.raises(
        UserError, match=r"ensemble: no teacher 'narow'; did you mean 'narrow'\?; a new one is set as a"
    ):
        load("demo", ["teachers.narow.ensemble=[6]"])
    with pytest.raises(UserError, match="copies: no teacher 'any'; there are none; a new one is set as a whole"):
        load("esc10-sizes", ["teachers.any.copies=true"])
    new = "{model: {width: 4}, recipe: {cycle_ends: [2], crop_frames: 72}, ensemble: [2]}"
    assert list(load("demo", [f"teachers.narow={new}", "teachers.narow.copies=false"]).teachers)[-1] == "narow"
