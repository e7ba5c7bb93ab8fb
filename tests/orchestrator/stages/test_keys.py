"""A changed setting, or changed code, reruns what depends on it and nothing else."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.copies import Copy
from features.generated import CorpusSize, make_corpus
from features.maps import FeatureMap
from features.precompute import Manifest
from features.settings import BY_RESPONSE
from features.shards import ShardJob, definition, digest_of
from features.spectrum import Responses
from features.taxonomy import Taxonomy
from models.seeding import derive
from orchestrator import code, versions
from orchestrator.config.experiment import Experiment, Resources, to_yaml
from orchestrator.config.loading import load
from orchestrator.stages import final, labels, search, students, teachers
from orchestrator.stages.computed import COMPUTED_BY, Computed
from orchestrator.stages.context import Data
from orchestrator.stages.corpus import tables_of
from orchestrator.training.data import Features, Split

ROOT = Path(__file__).parents[3]
NOTHING = Split.of([], Features(FeatureMap((), (), (1, 1)), np.empty(0, np.int64)), Taxonomy.from_scenes(("a", "b")))
ALL_BY_ONE = [labels.Labelling("", np.ones(0, bool))]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("keys") / "corpus"
    make_corpus(root, CorpusSize(cities=1, train_locations=4, train_segments=1, seconds=1.0), seed=5)
    return root


@pytest.fixture
def base(corpus) -> Experiment:
    """The demo with everything switched on that has settings."""
    on = [
        f"corpus.root={corpus}",
        "corpus.generate=null",
        "copies.kinds=[pitch, speed, noise, mix, dir]",
        "teachers.narrow.copies=true",
        "student.recipe.augment={mixstyle: {probability: 0.5}}",
    ]
    return load("demo", on)


def keys_of(config: Experiment) -> dict[str, str]:
    """Each stage's key, as if the recordings of the experiment had been read."""
    data = data_of(config)
    taught = {name: teachers.key_for(config, name, data) for name in config.labelling}
    student_data = data.for_student(config.student.copies)
    folders = {"": {name: Path(key) for name, key in taught.items()}}
    labelled = labels.key_for(config, student_data, folders, ALL_BY_ONE) if taught else None
    found = {"features": data.key, **{f"teacher {name}": key for name, key in taught.items()}}
    found |= {"labels": labelled} if labelled else {}
    if config.search:
        folds = [student_data] * len(config.search_cuts)
        found["search"] = search.key_for(config, folds, [labelled] if labelled else [])
    student = students.best_student(config, None)
    found["final"] = final.key_for(config, student, student_data, labelled)
    return found


def data_of(config: Experiment) -> Data:
    tables = tables_of(config)
    clips = tables[""]
    responses = Responses(config.spectrum.reference, {"b": np.ones(5, np.float32)})

    def manifest(copy: Copy | None) -> Manifest:
        correction = responses if config.spectrum.correct else None
        job = ShardJob(config.corpus.root, config.features, Path(), copy, {}, correction)
        content = digest_of(*definition(job), [clip.path for clip in clips])
        return Manifest(config.features, (), content, len(clips), {}, {})

    seed = derive(config.seed, "copies")
    copies = {
        kind: manifest(Copy(kind, config.copies, seed, responses if kind in BY_RESPONSE else None))
        for kind in config.kinds_of_copies
    }
    computed = Computed(tables, manifest(None), copies, None, code.code_of(*COMPUTED_BY))
    return Data(computed.key(), computed.recordings_key(), NOTHING, NOTHING, NOTHING, {}, {}, {})


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {stage for stage in before if before[stage] != after.get(stage)}


ALL = {"features", "teacher narrow", "teacher wide", "labels", "search", "final"}
TRAINED = ALL - {"features"}
STUDENTS = {"search", "final"}
COPIES = ALL - {"teacher wide"}  # which is trained without copies
NARROW = {"teacher narrow", "labels", *STUDENTS}

SETTINGS = {
    "name=other": set(),
    "seed=1": ALL,
    "corpus.validation_fraction=0.6": ALL,
    "corpus.groups={one: [airport, bus, metro, tram], two: [metro_station, park, public_square, shopping_mall, "
    "street_pedestrian, street_traffic]}": TRAINED,
    "features.clip_seconds=2.9": ALL,
    "features.n_fft=1024": ALL,
    "features.hop_length=1000": ALL,
    "features.n_mels=32": ALL,
    "features.scaling=level": ALL,
    "spectrum.reference=[b]": COPIES,
    "copies.kinds=[pitch, speed, noise, dir]": COPIES,
    "copies.semitones=2": COPIES,
    "copies.rates=[0.6, 2]": COPIES,
    "copies.noise=0.02": COPIES,
    "copies.gains=[0.6, 1]": COPIES,
    "copies.parts=[0.1, 1]": COPIES,
    "teachers.narrow.model.width=3": NARROW,
    "teachers.narrow.recipe.learning_rate=0.05": NARROW,
    "teachers.narrow.recipe.optimiser.momentum=0.8": NARROW,
    "teachers.narrow.recipe.loss.mean_over=elements": NARROW,
    "teachers.narrow.recipe.augment={mixstyle: {}}": NARROW,
    "teachers.narrow.ensemble=[14]": NARROW,
    "teachers.wide.model.width=3": {"teacher wide", "labels", *STUDENTS},
    "ensemble_of=logits": {"labels", *STUDENTS},
    "calibrate_teachers=true": {"labels", *STUDENTS},
    "calibrate_teachers=[0.5, 1]": {"labels", *STUDENTS},
    "student.model.stem=16": STUDENTS,
    "student.recipe.temperature=3": STUDENTS,
    "student.recipe.augment.mixstyle.alpha=0.3": STUDENTS,
    "student.labels=online": STUDENTS,
    "student.copies=true": {"labels", *STUDENTS},
    "student.recipe.moving_average=0.9": STUDENTS,
    "student.average=[14]": {"final"},
    "student.calibrate=true": {"final"},
    "student.weights=[1, 2]": {"final"},
    "search.trials=9": {"search"},
    "search.cycle_ends=[2, 5]": {"search"},
    "search.sampler=random": {"search"},
    "search.lag=3": {"search"},
    "search.together=4": {"search"},
    "search.finalists.seeds=4": {"search"},
    "search.stopping=median": {"search"},
    "search.stopping.grace_cycles=1": {"search"},
    "search.stopping=none": {"search"},
    "search.space.recipe.temperature.low=2": {"search"},
    "search=null": {"search"},
    "plain=false": {"final"},
    "final.seeds=2": {"final"},
    "validation.mean_over=clips": STUDENTS,
    "validation.leave_out_devices=[b]": ALL,
    "limits.macs=90000000": {"search"},
    "search.space={model.rows: {choices: [[32, 36, 40], [16, 24, 32]]}}": {"search"},
    "decision=scene": STUDENTS,
    "judged_by=scene": STUDENTS,
    "select_by=accuracy": STUDENTS,
    "test_shifts=[0, 4]": {"final"},
    "refit_of=other": set(),
    "export.tflite.largest_difference=0.01": {"final"},
    "resources.cpus_per_trial=2": TRAINED,
    "resources.gpus_per_trial=0.5": set(),
}
"""The student's own recipe reaches the final stage where there is no search; else by way of the best trial."""


@pytest.mark.parametrize(("override", "stages"), SETTINGS.items(), ids=list(SETTINGS))
def test_a_changed_setting_changes_the_keys_of_what_depends_on_it(base, tmp_path, override, stages):
    (tmp_path / "base.yaml").write_text(to_yaml(base))
    assert changed(keys_of(base), keys_of(load(str(tmp_path / "base.yaml"), [override]))) == stages


def test_folds_change_the_search_and_copies_by_fold_what_is_trained_on_them(base, tmp_path):
    (tmp_path / "base.yaml").write_text(to_yaml(base))
    one, two = (load(str(tmp_path / "base.yaml"), ["copies.kinds=[noise]", f"validation.folds={n}"]) for n in (1, 2))
    assert changed(keys_of(one), keys_of(two)) == {"search"}


GROUPS = [
    (
        ALL,
        """features.apart features.audio features.containers features.copies features.corpus features.decoding
        features.files features.frontend features.mpeg features.settings features.shards features.spectrum
        features.store features.waveform""",
    ),
    (
        TRAINED,
        """features.taxonomy models.ahead models.attention models.augment models.averaging models.batches models.blocks
        models.fit models.heads models.losses models.optimisers models.prediction models.recipe models.scene_model
        models.schedule models.seeding models.specs models.static models.table models.two_path
        orchestrator.stages.teachers orchestrator.training.data orchestrator.training.inputs
        orchestrator.training.metrics orchestrator.training.rows orchestrator.training.task""",
    ),
    (
        {"labels", *STUDENTS},
        "models.calibration orchestrator.stages.labels orchestrator.stages.context orchestrator.stages.snapshots",
    ),
    (
        STUDENTS,
        """models.mobnet orchestrator.stages.rounds orchestrator.stages.search orchestrator.training.best
        orchestrator.training.record orchestrator.training.scores""",
    ),
    (
        {"search"},
        """orchestrator.config.trained orchestrator.stages.choice orchestrator.stages.costs
        orchestrator.stages.distributions orchestrator.stages.objectives orchestrator.stages.samplers
        orchestrator.stages.sizes orchestrator.stages.stopping orchestrator.stages.verdicts
        orchestrator.training.paired""",
    ),
    (STUDENTS, "models.complexity"),
    (
        {"final"},
        """orchestrator.export.compact orchestrator.export.formats orchestrator.export.onnx orchestrator.export.tflite
        orchestrator.export.verify orchestrator.stages.actors orchestrator.stages.averages orchestrator.stages.final
        orchestrator.stages.final_actor orchestrator.stages.recorder orchestrator.stages.students
        orchestrator.training.journal""",
    ),
]
MODULES = {module: stages for stages, modules in GROUPS for module in modules.split()}
"""All other modules determine no result: they carry, place, show or check; or, as readers and generators of corpora do,
make what is in the keys by its content."""


def mutated(text: str) -> str:
    """The source with every function, class and constant changed."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.body.insert(ast.get_docstring(node) is not None, ast.parse("'mutated'.upper()").body[0])
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and not code.is_table(node):
            node.value = ast.Tuple([node.value, ast.Constant("mutated")], ast.Load())
    return ast.unparse(ast.fix_missing_locations(tree))


def with_source(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    original = code.source_of
    monkeypatch.setattr(
        code, "source_of", lambda name: change[name](original(name)) if name in change else original(name)
    )
    code.digest.cache_clear()


@pytest.fixture(autouse=True)
def clean_digests():
    yield
    code.digest.cache_clear()


def test_changed_code_changes_the_keys_of_what_it_determines(base, monkeypatch):
    before, found = keys_of(base), {}
    files = [file for package in code.PROJECT for file in (ROOT / package).rglob("*.py")]
    for file in files:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        with monkeypatch.context() as patch:
            with_source(patch, {name: mutated})
            stages = changed(before, keys_of(base))
        if stages:
            found[name] = stages
    assert found == MODULES


def test_comments_docstrings_and_formatting_of_any_module_change_no_key(base, monkeypatch):
    before = keys_of(base)

    def rewritten(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) and len(node.body) > 1:
                del node.body[0]
        return ast.unparse(tree)

    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for package in code.PROJECT
        for file in (ROOT / package).rglob("*.py")
    ]
    with_source(monkeypatch, dict.fromkeys(names, rewritten))
    assert keys_of(base) == before


def test_code_that_trains_changes_the_search_where_there_are_no_teachers(base, tmp_path, monkeypatch):
    (tmp_path / "base.yaml").write_text(to_yaml(base))
    space = "search.space={recipe.mixup_alpha: {low: 0.1, high: 0.6}}"
    without = ["teachers={}", "student.recipe.soft_weight=0", "student.copies=true", space]
    alone = load(str(tmp_path / "base.yaml"), without)
    before = keys_of(alone)
    with_source(monkeypatch, {"models.fit": mutated})
    assert changed(before, keys_of(alone)) == STUDENTS


def test_how_often_the_search_draws_changes_its_key(base, monkeypatch):
    before = keys_of(base)
    with_source(monkeypatch, {"orchestrator.stages.rounds": lambda text: text.replace("DRAWS = 100", "DRAWS = 99")})
    assert changed(before, keys_of(base)) == {"search"}


def test_the_final_key_has_what_does_not_come_by_way_of_the_labels(base, monkeypatch):
    data = data_of(base)

    def key(config: Experiment = base, data: Data = data) -> str:
        return final.key_for(config, config.student, data, "labels")

    more = base.model_copy(update={"resources": Resources(cpus_per_trial=2)})
    keys = [key(), key(more), key(data=replace(data, key="other"))]
    with_source(monkeypatch, {"orchestrator.stages.final": lambda text: text.replace('"chosen.json"', '"other.json"')})
    assert len({*keys, key()}) == 4  # the last: code that publishes


def test_another_version_of_what_exports_changes_the_final_key_alone(base, monkeypatch):
    before, installed = keys_of(base), versions.installed()
    monkeypatch.setattr(versions, "installed", lambda: installed | {"onnx2tf": "0.1"})
    assert changed(before, keys_of(base)) == {"final"}


def test_code_that_gives_students_their_labels_changes_students_alone(base, monkeypatch):
    before = keys_of(base)
    attach = "train = data.train.with_soft("
    with_source(monkeypatch, {"orchestrator.stages.labels": lambda text: text.replace(attach, f"{attach}*")})
    assert changed(before, keys_of(base)) == STUDENTS
