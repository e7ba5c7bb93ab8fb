"""The submission: what a valid one is, and that every broken rule is found and named."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from features.corpus import CorpusError
from orchestrator.config.experiment import to_yaml
from orchestrator.config.loading import load
from orchestrator.errors import UserError
from orchestrator.report.schema import BestTrial, Results, Validation
from orchestrator.submission.meta import augmentations, build_meta, check_meta, write_meta
from orchestrator.submission.output import check_output, evaluation_files, write_output
from orchestrator.submission.package import DEVICES, SCENES, check
from orchestrator.training.record import Settings
from tests.orchestrator.report.sample_runs import make_results

FILES = [f"audio/{number}.wav" for number in range(3)]
WEIGHTS = [np.ones(59_000, np.float16), np.array([1] * 110 + [0] * 11, np.float16)]
LABEL = "Zhao_Maxvision_task1a_1"
ABOUT = {
    "submission": {
        "label": LABEL,
        "name": "Small Mobnet",
        "abbreviation": "Mobnet",
        "authors": [
            {
                "lastname": "Zhao",
                "firstname": "Na",
                "email": "na@example.org",
                "corresponding": True,
                "affiliation": {"abbreviation": "Maxvision", "institute": "Maxvision", "location": "Wuhan, China"},
            },
            {
                "lastname": "Hu",
                "firstname": "Hu",
                "email": "hu@example.org",
                "affiliation": {"abbreviation": "GT", "institute": "Georgia Tech", "location": "Atlanta, USA"},
            },
        ],
    },
}


def rows() -> dict[str, list[float]]:
    return {name: [0.91 if scene == number else 0.01 for scene in range(10)] for number, name in enumerate(FILES)}


@pytest.fixture
def output(tmp_path) -> Path:
    path = tmp_path / f"{LABEL}.output.csv"
    write_output(path, rows(), SCENES)
    return path


@pytest.fixture
def evaluation(tmp_path) -> Path:
    root = tmp_path / "evaluation"
    (root / "audio").mkdir(parents=True)
    (root / "evaluation_setup").mkdir()
    (root / "evaluation_setup/fold1_test.csv").write_text("filename\n" + "\n".join(FILES) + "\n")
    for name in FILES:
        (root / name).write_bytes(b"")
    return root


def test_a_written_output_is_the_challenge_s(output):
    header, first, *_ = output.read_text().splitlines()
    assert header == (
        "filename\tscene_label\tairport\tbus\tmetro\tmetro_station\tpark\tpublic_square\tshopping_mall"
        "\tstreet_pedestrian\tstreet_traffic\ttram"
    )
    assert first == "audio/0.wav\tairport\t0.910000" + 9 * "\t0.010000"
    assert check_output(output, FILES, SCENES) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "scene_label\tairport\tbus",
            "scene_label\tbus\tairport",
            "the columns must be filename, scene_label, airport",
        ),
        ("audio/1.wav", "audio/9.wav", "audio/9.wav is no file of the evaluation set"),
        ("audio/1.wav", "audio/0.wav", "line 3: audio/0.wav has a row already"),
        ("audio/2.wav\tmetro\t", "audio/2.wav\tbus\t", "line 4: 'bus' is not the most probable scene"),
        ("audio/2.wav\tmetro\t", "audio/2.wav\tcar\t", "line 4: 'car' is no scene"),
        ("0.910000", "0.810000", "line 2: probabilities sum to 0.9000"),
        ("0.910000", "nan", "line 2: a probability is not between 0 and 1"),
        ("0.910000", "1.910000", "line 2: a probability is not between 0 and 1"),
        ("0.910000", "much", "line 2: a probability is not a number"),
        ("0.910000\t", "", "line 2: 11 columns instead of 12"),
    ],
)
def test_a_broken_output_is_found(output, old, new, problem):
    text = output.read_text()
    assert old in text
    output.write_text(text.replace(old, new, 1))
    problems = check_output(output, FILES, SCENES)
    assert any(problem in line for line in problems), problems


def test_a_file_without_a_row_is_named(output):
    assert check_output(output, [*FILES, "audio/3.wav", "audio/4.wav"], SCENES) == [
        f"{output.name}: 2 files have no row; the first is audio/3.wav"
    ]


def test_the_evaluation_set_must_be_whole(evaluation, tmp_path):
    assert evaluation_files(evaluation) == FILES
    (evaluation / "audio/7.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"does not name audio/7.wav, which is there; 1 such files"):
        evaluation_files(evaluation)
    (evaluation / "audio/7.wav").rename(evaluation / "audio/8.flac")
    (evaluation / "audio/1.wav").unlink()
    with pytest.raises(CorpusError, match=r"names audio/1.wav, which is not there; 1 such files"):
        evaluation_files(evaluation)
    with pytest.raises(CorpusError, match="is not there; set --evaluation"):
        evaluation_files(tmp_path / "none")


def tau_results(**changes: object) -> Results:
    part = {"accuracy": 0.599, "log_loss": 1.2, "clips": 10}
    report = {**part, "per_class": dict.fromkeys(SCENES, part), "per_device": dict.fromkeys(DEVICES, part)}
    results = make_results()
    results["models"]["student"]["tflite"] = {**report, "confusion": []}
    results["corpus"]["copies"] = ["pitch"]
    return Results.model_validate(results | changes)


def meta_text(tmp_path: Path, about: dict = ABOUT) -> str:
    results = tau_results()
    assert results.product is not None
    meta = build_meta(about, results, yaml.safe_load(to_yaml(load("dcase2021"))), results.product, WEIGHTS)
    path = tmp_path / f"{LABEL}.meta.yaml"
    write_meta(path, meta)
    return path.read_text()


def test_the_meta_file_has_the_run_s_figures(tmp_path):
    tree = yaml.safe_load(meta_text(tmp_path))
    assert tree["system"]["complexity"] == {
        "total_parameters": 59_121,
        "total_parameters_non_zero": 59_110,
        "model_size": 115.45,  # 2 x 59,110 bytes
    }
    assert tree["system"]["description"]["input_sampling_rate"] == "44.1kHz"
    assert tree["system"]["description"]["data_augmentation"] == (
        "random crop, mixup, frequency mask, time mask, pitch"  # the masks are teacher 1's
    )
    development = tree["results"]["development_dataset"]
    assert development["overall"] == {"logloss": 1.2, "accuracy": 59.9}
    assert list(development["class_wise"]) == SCENES and list(development["device_wise"]) == DEVICES
    assert check_meta(tmp_path / f"{LABEL}.meta.yaml", SCENES, DEVICES, 128_000) == []


@pytest.mark.parametrize("field", ["embeddings", "data_augmentation", "decision_making", "external_data_usage"])
def test_a_field_of_the_template_that_is_left_out_is_found(tmp_path, field):
    tree = yaml.safe_load(meta_text(tmp_path))
    del tree["system"]["description"][field]
    file = tmp_path / f"{LABEL}.meta.yaml"
    file.write_text(yaml.safe_dump(tree))
    assert check_meta(file, SCENES, DEVICES, 128_000) == [f"{file.name}: system.description.{field} is missing"]


def test_augmentation_of_the_teachers_is_declared_too():
    teachers = load("dcase2021-1").model_dump(mode="json")
    assert augmentations(teachers, None) == ["random crop", "mixup", "frequency mask", "time mask"]


def test_augmentation_that_the_search_has_chosen_is_declared_and_what_it_dropped_is_not():
    mixstyle = "student.recipe.augment={mixstyle: {probability: 0.2}}"
    config = load("dcase2021-2", ["student.teachers=[attention]", mixstyle]).model_dump(mode="json")
    for teacher in config["teachers"].values():
        teacher["recipe"]["mixup_alpha"] = 0.0
    settings: Settings = {"recipe.augment.mixstyle.probability": 0.5, "recipe.mixup_alpha": 0.0, "model.shared": 40}
    nothing = Validation(accuracy=0.5, log_loss=1.0)
    best = BestTrial(name="student-01", settings=settings, validation=nothing)
    assert augmentations(config, best) == ["random crop", "mixstyle"]


def test_a_description_may_be_empty_but_is_no_text(tmp_path):
    assert meta_text(tmp_path, {**ABOUT, "description": None}) == meta_text(tmp_path)
    with pytest.raises(UserError, match="description must be fields of the template"):
        meta_text(tmp_path, {**ABOUT, "description": "a CNN"})


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (["submission", "label"], "Zhao_task1a_1", "submission.label"),
        (["submission", "label"], "Zhao_Maxvision_task1a_2", "its label is Zhao_Maxvision_task1a_2"),
        (["submission", "abbreviation"], "far too long", "submission.abbreviation: String should have at most 10"),
        (["submission", "authors", 0, "corresponding"], False, "exactly one author must be corresponding, not 0"),
        (["submission", "authors", 1, "corresponding"], True, "exactly one author must be corresponding, not 2"),
        (["submission", "authors", 1, "emial"], "x", "did you mean 'email'?"),
        (["system", "complexity", "model_size"], 10.0, "model_size is 10.0 KB, which is not "),
        (["submission", "name"], "", "submission.name"),
        (["system", "complexity", "model_size"], 130.0, "model_size is 130.0 KB; at most 125 are allowed"),
        (["system", "complexity", "total_parameters"], 5, "more non-zero parameters than parameters"),
        (["results", "development_dataset", "device_wise"], {}, "device_wise has  instead of a, b, c"),
        (["results", "development_dataset", "overall", "accuracy"], 101, "less than or equal to 100"),
    ],
)
def test_a_broken_meta_file_is_found(tmp_path, keys, value, problem):
    tree = yaml.safe_load(meta_text(tmp_path))
    node = tree
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path = tmp_path / f"{LABEL}.meta.yaml"
    path.write_text(yaml.safe_dump(tree))
    problems = check_meta(path, SCENES, DEVICES, 128_000)
    assert len(problems) == 1 and problem in problems[0], problems


def test_facts_with_a_mistake_are_one_line(tmp_path):
    with pytest.raises(UserError, match="^the submission's facts: submission: Input should be"):
        meta_text(tmp_path, {})
    with pytest.raises(UserError, match="unknown section 'auhtors'"):
        meta_text(tmp_path, ABOUT | {"auhtors": []})


def test_a_package_is_checked_as_a_whole(tmp_path, evaluation):
    folder = tmp_path / LABEL
    folder.mkdir()
    lines: list[str] = []
    assert check(folder, evaluation, lines.append) == 2
    assert [line.rsplit("/", 1)[1] for line in lines] == [
        f"{LABEL} has no {LABEL}.{end}" for end in ("output.csv", "meta.yaml")
    ]
    write_output(folder / f"{LABEL}.output.csv", rows(), SCENES)
    (folder / f"{LABEL}.meta.yaml").write_text(meta_text(tmp_path))
    lines.clear()
    assert check(folder, evaluation, lines.append) == 0
    assert lines == [f"{LABEL}: nothing is wrong"]
