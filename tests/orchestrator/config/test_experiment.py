"""One experiment is one validated file."""

import dataclasses
import re

import pytest
import yaml

from models.recipe import SgdSettings
from models.specs import MobnetSpec, TwoPathSpec
from orchestrator.config.experiment import Experiment, to_yaml
from orchestrator.config.keys import key_of
from orchestrator.config.loading import PRESETS, load, load_systems
from orchestrator.config.search import STOPPING, SearchSettings
from orchestrator.config.space import Choices, Range
from orchestrator.config.trained import apply_settings
from orchestrator.errors import UserError

NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml") if load_systems(path.stem) is None)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_preset_loads_and_survives_a_round_trip(name, tmp_path):
    config = load(name)
    file = tmp_path / "resolved.yaml"
    file.write_text(to_yaml(config))
    assert load(str(file)) == config
    assert key_of(load(str(file))) == key_of(config)


def test_the_presets_of_the_issue_exist():
    assert {"demo", "esc10", "dcase2021"} <= set(NAMES)


def test_dcase2021_has_the_papers_settings():
    config = load("dcase2021")
    first, second, student = config.teachers["augmented"], config.teachers["attention"], config.student
    assert config.features.frames == 431
    for recipe in (first.recipe, second.recipe, student.recipe):
        assert recipe.cycle_ends == (2, 6, 14, 30, 62, 126, 254, 510)
        assert (recipe.learning_rate, recipe.final_learning_rate) == (0.1, 1e-5)
        assert isinstance(recipe.optimiser, SgdSettings) and recipe.optimiser.momentum == 0.9
        assert (recipe.mixup_alpha, recipe.crop_frames, recipe.scene_weight) == (0.4, 400, 0.9)
    assert isinstance(second.model, TwoPathSpec) and second.model.attention != "none"
    assert second.ensemble == (254, 510) and not second.copies
    assert first.copies and set(config.copies.kinds) == {"pitch", "speed", "noise", "mix", "spectrum"}
    assert (first.recipe.mel_mask, first.recipe.time_mask) == (12, 39)
    assert len(config.corpus.taxonomy.scenes) == 10


def test_the_four_systems_differ_in_what_the_paper_says_and_in_nothing_else():
    systems = load_systems("dcase2021-all", ["corpus.root=/data/tau"])
    assert systems is not None and list(systems) == ["1", "2", "3", "4"]
    trees = {label: system.model_dump(exclude={"name"}) for label, system in systems.items()}

    def differing(one: str, other: str) -> set[str]:
        first, second = (dict(leaves(trees[label])) for label in (one, other))
        return {key for key in first | second if first.get(key) != second.get(key)}

    assert differing("1", "2") == {"student.teachers"}  # which teacher labels
    assert differing("2", "3") == {"decision"}
    assert differing("2", "4") == {"student.recipe.group_soft_weight"}
    assert systems["1"].labelling.keys() == {"augmented"} and systems["2"].labelling.keys() == {"attention"}
    assert systems["2"].student.recipe.soft_weights == (1.0, 1.0)  # "all labels from teacher model"
    assert systems["4"].student.recipe.soft_weights == (1.0, 0.0)
    assert [system.decision for system in systems.values()] == ["scene", "scene", "combined", "scene"]
    assert all(system.search is None and not system.plain for system in systems.values())
    assert {str(system.corpus.root) for system in systems.values()} == {"/data/tau"}
    assert systems["1"].kinds_of_copies and not systems["2"].kinds_of_copies


def leaves(tree, path=""):
    """(dotted key, value) of everything below `tree`."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        tree = dataclasses.asdict(tree)
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def test_what_a_file_extends_is_under_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "extends: demo\nname: mine\nsearch: {trials: 3}\nteachers: {wide: {ensemble: [14]}}\n"
    )
    mine, demo = load(str(tmp_path / "mine.yaml")), load("demo")
    assert mine.search is not None and demo.search is not None
    assert mine.search == demo.search.model_copy(update={"trials": 3})
    assert mine.teachers["wide"] == demo.teachers["wide"].model_copy(update={"ensemble": (14,)})
    assert mine.teachers["narrow"] == demo.teachers["narrow"]
    (tmp_path / "other.yaml").write_text(
        "extends: esc10\ncorpus: {groups: {one: [rain], two: [dog_bark]}}\n"
        "search: {space: {recipe.scene_weight: {choices: [0.9]}}}\n"
    )
    other = load(str(tmp_path / "other.yaml"))
    assert list(other.corpus.groups or {}) == ["one", "two"]  # what is data is not merged
    assert other.search is not None and other.search.space["recipe.scene_weight"] == Choices(choices=(0.9,))
    assert len(other.search.space) == 4
    (tmp_path / "set.yaml").write_text("seed: 5\nsystems: {1: demo}\n")
    with pytest.raises(UserError, match="'seed', which would be ignored"):
        load_systems(str(tmp_path / "set.yaml"))
    (tmp_path / "loop.yaml").write_text(f"extends: {tmp_path}/loop.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        load(str(tmp_path / "loop.yaml"))


def test_files_are_found_beside_the_file_that_names_them(tmp_path, monkeypatch):
    there = tmp_path / "experiments"
    there.mkdir()
    (there / "base.yaml").write_text("extends: demo\nseed: 7\n")
    (there / "groups.yaml").write_text("one: [airport, bus]\ntwo: [park]\n")
    (there / "mine.yaml").write_text("extends: base.yaml\nname: mine\ncorpus: {groups: groups.yaml}\n")
    (there / "both.yaml").write_text("systems: {1: mine.yaml, 2: demo}\n")
    monkeypatch.chdir(tmp_path)
    mine = load("experiments/mine.yaml")
    assert (mine.name, mine.seed) == ("mine", 7)
    assert mine.corpus.groups == {"one": ("airport", "bus"), "two": ("park",)}
    systems = load_systems("experiments/both.yaml")
    assert systems is not None and [system.name for system in systems.values()] == ["mine", "demo"]


def test_an_override_replaces_one_value():
    config = load("demo", ["student.recipe.temperature=3.5", "corpus.root=/data/x", "search.cycle_ends=[1, 2]"])
    assert config.student.recipe.temperature == 3.5
    assert str(config.corpus.root) == "/data/x"
    assert config.search is not None and config.search.cycle_ends == (1, 2)
    assert config.teachers == load("demo").teachers


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("student.recipe.temprature=2", ["'student.recipe.temprature'", "'temperature'"]),
        ("teachers.wide.model.widht=2", ["teachers.wide.model", "'widht'", "'width'"]),
        ("search.lag=0", ["search.lag", "greater than or equal to 1"]),
        ("search.finalists={best: 9}", ["finalists.best is 9; there are 5 trials"]),
        ("search.finalists=2", ["{best: 3, seeds: 3}, or 0"]),
        ("search.stopping.grace_cycles=4", ["there are 3 cycles"]),
        ("search.space={}", ["search.space", "at least 1"]),
        ("validation.folds=0", ["validation.folds", "greater than or equal to 1"]),
        ("search.objectives=[log_loss, size]", ["search.objectives", "'bytes'"]),
        ("search.objectives=[accuracy, bytes]", ["bytes", "no setting of space changes"]),
        ("search.objectives=[accuracy]", ["must have select_by's, log_loss"]),
        ("search.objectives=[log_loss, log_loss]", ["has one twice"]),
        ("limits.macs=0", ["limits", "macs must be at least 1"]),
        ("limits.bytes=0", ["limits", "bytes must be at least 1"]),
        ("search.sampler={name: nsga2, population: 1}", ["population must be at least 2"]),
        ("student.labels={name: crossfit, parts: 1}", ["parts must be at least 2"]),
        ("student.recipe.moving_average=1", ["moving_average must be from 0 to below 1"]),
        ("teachers.wide.recipe.moving_average=0.9", ["teachers vote as they are"]),
        ("student.moving=true", ["moving is of weights"]),
        ("search.stopping={name: median, least: 0}", ["least and grace_cycles must be at least 1"]),
        ("validation.mean_over=scenes", ["validation.mean_over", "'clips' or 'devices'"]),
        ("final.seeds=0", ["final.seeds"]),
        ("student.recipe.batch_size=1000000000000000000", ["batch_size must be at most 1,000,000"]),
        ("student.recipe.cycle_ends=[1000000000000000000]", ["cycle_ends must be at most 1,000,000"]),
        ("student.model.stem=1000000000000000000", ["mobnet widths must be from 1 to 10,000"]),
        ("teachers.wide.model.width=1000000000000000000", ["width, stacks", "from 1 to 10,000"]),
        ("features.n_fft=1000000000000000000", ["n_fft must be at most 1,048,576"]),
        ("features.clip_seconds=1e300", ["clip_seconds must be at most 3,600"]),
        ("student.recipe.learning_rate=1e300", ["student.recipe.learning_rate must be finite, and at most"]),
        ("student.recipe.mixup_alpha=1e13", ["student.recipe.mixup_alpha must be finite, and at most"]),
        ("student.recipe.optimiser.weight_decay=1e300", ["weight_decay must be finite, and at most"]),
        ("student.recipe.temperature=1e-300", ["temperature must be at least 0.001"]),
        ("student.recipe.mel_mask=1000", ["student.recipe.mel_mask must be at most"]),
        ("student.recipe.time_mask=100000", ["student.recipe.time_mask must be at most"]),
        ("copies.semitones=1e300", ["copies.semitones must be finite, and at most"]),
        ("copies.noise=1e300", ["copies.noise must be finite, and at most"]),
        ("search.stopping.reduction_factor=1000000000000000", ["reduction_factor must be finite, and at most"]),
        ("test_shifts=[1000000]", ["must be within a clip's"]),
        ("export={onnx: {}, tflite: {largest_difference: .inf}}", ["largest_difference must be finite, and at most"]),
        ("export={onnx: {}, tflite: {largest_difference: -1}}", ["largest_difference must not be negative"]),
        ("seed=true", ["seed is True, which is no number"]),
        ("seed=1_000", ["seed is '1_000', which is no number"]),  # text in YAML 1.2
        ("student.recipe.mixup_alpha=0_1.5", ["mixup_alpha is '0_1.5', which is no number"]),
        ("student.recipe.augment={mixstyle: {alpha: '0.3'}}", ["mixstyle.alpha is '0.3', which is no number"]),
        ("plain=1", ["plain is 1, which is no truth value"]),
        (f"name={'x' * 101}", ["at most 100"]),
        ("search.trials=1000000000000000000", ["search.trials", "less than or equal to 100000"]),
        ("resources.gpus_per_trial=.inf", ["gpus_per_trial", "less than or equal to 1000"]),
        ("serch.trials=3", ["'serch'", "'search'"]),
        ("search.space.recipe.temperture.low=1", ["recipe"]),
        ("seed=-1", ["seed", "greater than or equal to 0"]),
        ("corpus.fit_on=[train, validation, test]", ["no clip to measure on", "--total"]),
        ("test_shifts=[]", ["test_shifts", "at least 1"]),
        ("corpus.groups={a: [x, y], b: [x]}", ["scene 'x' is in both 'a' and 'b'"]),
        ("student.weights=[.nan, 1]", ["student.weights", ".nan is no setting"]),
        ("student.model.residual_norm=.nan", ["residual_norm", ".nan is no setting"]),
        (
            "student.recipe.augment={mixstyle: {alpha: .inf}}",
            ["augment: mixstyle: alpha must be positive"],
        ),
        ("student.teachers=[wide, braod]", ["student.teachers", "narrow"]),
        ("corpus.fit_on=[train, validation]", ["no validation split to choose by", "stillhouse refit"]),
        ("corpus.fit_on=[validation]", ["[train, validation]"]),
        ("student.weights=[1, 2, 3]", ["one for each of average"]),
        ("copies={kinds: [dir]}", ["no teacher and no student trains on"]),
        ("copies.kinds=[dri]", ["dir"]),
        ("student.recipe.augment={mixstyle: {probability: 1.5}}", ["probability must be between 0 and 1"]),
        ("spectrum.refrence=[a]", ["'reference'"]),
        ("seed", ["a.b=value"]),
        ("seed.deeper=1", ["'seed' is a value"]),
        ("student.recipe.cycle_ends=[2, 1]", ["cycle_ends", "increasing"]),
        ("student.recipe.crop_frames=900", ["student.recipe.crop_frames", "900", "79 frames"]),
        (
            "teachers.new={model: {width: 8}}",
            ["teachers.new.ensemble is missing; `stillhouse config explain teachers.new.ensemble` says what it is"],
        ),
        ("teachers.wide.ensemble=[5]", ["ensemble [5]", "[2, 6, 14]"]),
        ("student.average=[]", ["average []"]),
        ("corpus.validation_fraction=1.5", ["corpus.validation_fraction", "less than 1"]),
        ("seed={", ["not valid YAML"]),
        ("corpus.layout={name: folders, pattern: (}", ["corpus.layout: pattern", "not a regular expression"]),
        ("corpus.layout={name: folders, pattern: x}", ["corpus.layout: pattern", "(?P<split>...)"]),
        ("student.recipe.optimiser.momentum=1", ["student.recipe: optimiser: momentum", "[0, 1)"]),
        ("student.recipe.learning_rate=.inf", ["learning_rate", "finite"]),
        ("student.recipe.scene_weight=1.2", ["scene_weight", "between 0 and 1"]),
    ],
)
def test_a_bad_override_is_one_line_that_names_the_place(override, words):
    with pytest.raises(UserError) as caught:
        load("demo", [override])
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_what_is_fitted_on_validation_cannot_be_trained_on_it_but_by_given_temperatures():
    trained = ["corpus.fit_on=[train, validation]", "search=null", "plain=false", "student.weights=[1, 1]"]
    with pytest.raises(UserError, match="no validation split to calibrate on: .*calibrate_teachers"):
        load("demo", [*trained, "calibrate_teachers=true"])
    assert load("demo", [*trained, "calibrate_teachers=[0.4, 0.5]"]).calibrate_teachers == (0.4, 0.5)


@pytest.mark.parametrize("value", ["[0, 1]", "[1, 1001]", "[1]", "[1, 1, 1]", "[true, 1]", "2", "on_test", "{}"])
def test_what_is_neither_a_switch_nor_two_temperatures_is_one_line(value):
    with pytest.raises(
        UserError, match=r"^demo: calibrate_teachers: must be true, false or two temperatures from 0.001 to 1,000, not "
    ) as caught:
        load("demo", [f"calibrate_teachers={value}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"recipe.temprature": {"low": 1, "high": 2}}, ["recipe.temprature", "'recipe.temperature'"]),
        ({"temperature": {"low": 1, "high": 2}}, ["'temperature'"]),
        ({"recipe.temperature": {"low": 2, "high": 1}}, ["low < high"]),
        ({"recipe.scene_weight": {"low": 0.5, "high": 2.0}}, ["scene_weight", "between 0 and 1"]),
        ({"model.stem": {"choices": [0]}}, ["from 1 to 10,000"]),
    ],
)
def test_a_bad_search_space_is_refused(space, words):
    tree = yaml.safe_load((PRESETS / "demo.yaml").read_text())
    tree["search"]["space"] = space
    with pytest.raises(ValueError) as caught:
        Experiment.model_validate(tree)
    assert all(word in str(caught.value) for word in words)


def test_settings_of_the_search_reach_recipe_and_model():
    student = load("demo").student
    changed = apply_settings(student, {"recipe.temperature": 4.0, "model.rows": [16, 20, 24]})
    assert changed.recipe == dataclasses.replace(student.recipe, temperature=4.0)
    assert changed.model == MobnetSpec(rows=(16, 20, 24))


def test_unknown_presets_and_files():
    with pytest.raises(UserError, match="did you mean 'esc10'"):
        load("esc11")
    with pytest.raises(UserError, match="presets: "):
        load("/nowhere/at-all.yaml")


def test_an_unreadable_file_is_one_line(tmp_path):
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file|not valid YAML"):
        load(str(binary))
    listed = tmp_path / "y.yaml"
    listed.write_text("- 1\n")
    with pytest.raises(UserError, match="not a mapping"):
        load(str(listed))


def test_groups_may_be_a_file_of_their_own(tmp_path):
    groups = tmp_path / "groups.yaml"
    groups.write_text("wet: [rain, waves]\ndry: [cafe]\n")
    config = load("demo", [f"corpus.groups={groups}"])
    assert config.corpus.taxonomy.scenes == ("cafe", "rain", "waves")
    assert config.corpus.taxonomy.group_of_scene == (0, 1, 1)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["student.copies=true"], "student.copies is true, but copies.kinds names none"),
        (["teachers.wide.copies=true"], "teachers.wide.copies is true, but copies.kinds names none"),
        (["copies.kinds=[noise]"], "no teacher and no student trains on copies.kinds"),
        (["copies.kinds=[echo]", "student.copies=true"], "copies.kinds.0: Input should be 'pitch'"),
        (["copies.rates=[2, 1]"], "copies.rates must be 0 < low <= high"),
    ],
)
def test_copies_are_made_for_somebody_and_by_a_known_change(overrides, words):
    with pytest.raises(UserError, match="^demo: .*" + re.escape(words)):
        load("demo", overrides)


def test_copies_of_the_student_are_those_of_every_trial():
    config = load("demo", ["copies.kinds=[noise, mix]", "student.copies=true"])
    assert config.search_recipe({"recipe.temperature": 2.0}).copies
    assert not load("demo").search_recipe({}).copies


def test_an_override_leaves_what_shares_an_anchor_with_it_alone():
    config = load("demo", ["teachers.narrow.recipe.crop_frames=64"])
    assert config.teachers["narrow"].recipe.crop_frames == 64
    assert config.teachers["wide"] == load("demo").teachers["wide"]


def test_with_several_objectives_nobody_is_stopped():
    search = SearchSettings.model_validate({"cycle_ends": [2, 6], "objectives": ["log_loss", "accuracy"]})
    assert STOPPING.name_of(search.stopping) == "none"
    several = "search.objectives=[log_loss, accuracy]"
    assert load("demo", [several, "search.stopping=none"]).search
    with pytest.raises(UserError, match=r"halving judges by one objective, and there are 2: set stopping to none"):
        load("demo", [several])


def test_of_few_trials_as_many_are_finalists_as_there_are():
    def best(settings: str) -> int:
        search = load("demo", [f"search={{cycle_ends: [2, 6], {settings}}}"]).search
        assert search is not None and search.finalists is not None
        return search.finalists.best

    assert (best(""), best("trials: 2"), best("trials: 1, finalists: {seeds: 1}")) == (3, 2, 1)
    without = load("demo", ["search.finalists=0"]).search
    assert without is not None and without.finalists is None


def test_a_dimension_of_the_search_is_overridden_alone():
    space = load("demo", ["search.space.recipe.temperature.low=2"]).search.space  # type: ignore[union-attr]
    default = load("demo").search.space  # type: ignore[union-attr]
    assert space == default | {"recipe.temperature": Range(low=2, high=8, log=True)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.space.recipe.temperature.lo=2", "'search.space.recipe.temperature.lo'; did you mean 'low'?"),
        (
            "search.space={recipe.temperature: {high: 2}}",
            "search.space.recipe.temperature.low is missing; `stillhouse config explain search.space` says",
        ),
        ("search.space={recipe.mixup_alpha: {choices: [high]}}", "space: recipe.mixup_alpha: Input should be a valid"),
        (
            "search.space={model.stem: {low: 16.5, high: 32}}",
            "space: model: stem: Input should be a valid integer",
        ),
        ("search.space={recipe.time_shift: {low: 0, high: 1}}", "recipe.time_shift is no number: give choices"),
        ("features.clip_seconds=.inf", "rates, lengths and sizes must be positive and finite"),
        ("student.model.branches=5", "student.model cuts 48 mel bins into 5: choose a divisor"),
        ("teachers.wide.model.paths=100", "teachers.wide.model cuts 48 mel bins into 100: choose a divisor"),
        ("student.average=[30, 14]", "average [30, 14] must be some of the cycle ends [2, 6, 14, 30], in order"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(override, message):
    with pytest.raises(UserError) as caught:
        load("demo", [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "function-after" not in str(caught.value)


@pytest.mark.parametrize(
    ("older", "given", "limits"),
    [
        ({"bytes": None, "macs": 5, "peak": None}, None, (128_000, 5, None)),
        ({"bytes": 90_000}, {"peak": 7}, (90_000, None, 7)),
        ({}, {"bytes": None}, (None, None, None)),
    ],
)
def test_limits_of_older_files_are_in_the_search(tmp_path, older, given, limits):
    tree = load("demo").model_dump(mode="json")
    tree["search"]["limits"] = older
    del tree["limits"]
    if given:
        tree["limits"] = given
    (tmp_path / "older.yaml").write_text(yaml.safe_dump(tree))
    found = load(str(tmp_path / "older.yaml")).limits
    assert (found.bytes, found.macs, found.peak) == limits
