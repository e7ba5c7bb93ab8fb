"""The schema for editors takes what Stillhouse takes, and refuses what it refuses."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from orchestrator.config.experiment import to_yaml
from orchestrator.config.explained import settings
from orchestrator.config.json_schema import experiment_schema
from orchestrator.config.loading import PRESETS, load, presets
from orchestrator.config.plain_yaml import parse_yaml

SCHEMA = experiment_schema()


def is_valid(text: str) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(parse_yaml(text, "test"))


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("preset", presets())
def test_presets_are_valid_as_written_and_resolved(preset):
    text = (PRESETS / f"{preset}.yaml").read_text()
    assert is_valid(text)
    if "systems:" not in text:
        assert is_valid(to_yaml(load(preset)))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("extends: demo\nteachers: {narrow: null}", True),
        ("extends: mine.yaml\nsearch: null", True),
        ("search: {finalists: 0, sampler: gp, space: {recipe.temperature: {low: 1, high: 2}}}", True),
        ("search: {finalists: 1}", False),
        ("search: {space: {recipe.temperature: {lower: 1, high: 2}}}", False),
        ("search: {sampler: {name: nsga2, population: 4}}", True),
        ("search: {sampler: {name: tpe, population: 4}}", False),
        ("search: {sampler: gaussian}", False),
        ("search: {sampler: 'mine.samplers:Own'}", True),
        ("student: {model: {stem: 16}}", True),  # mobnet's, the default
        ("student: {model: {width: 16}}", False),
        ("student: {model: {family: two_path, width: 16}}", True),
        ("student: {model: {family: 'mine.nets:Own', anything: 1}}", True),
        ("student: {recipe: {soft_weight: 0.5, augment: {mixstyle: null}}}", True),
        ("student: {recipe: {softweight: 0.5}}", False),
        ("export: {onnx: {largest_difference: 0.1}, 'mine.files:Own': {}}", True),
        ("export: {onxx: {}}", False),
        ("corpus: {layout: {name: folders, split_by: folder}, groups: null, scenes: [cafe, tram]}", True),
        ("corpus: {layout: tau, groups: tau}", True),
        ("corpus: {groups: {indoor: [cafe]}}", True),
        ("corpus: {groups: {indoor: cafe}}", False),
        ("seed: -1", False),
        ("validation: {folds: 2.5}", False),
        ("final: {seeds: 3}\nplain: false", True),
        ("finals: {seeds: 3}", False),
    ],
)
def test_what_a_file_may_say(text, valid):
    assert is_valid(text) is valid


def names_in(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for option in schema.get("anyOf", [schema]):
        for name, inner in option.get("properties", {}).items():
            yield f"{prefix}{name}"
            yield from names_in(inner, f"{prefix}{name}.")
        for inner in [option.get("additionalProperties")]:
            if isinstance(inner, dict):
                yield from names_in(inner, f"{prefix}NAME.")


def test_every_setting_is_in_it():
    missing = {one.name for one in settings()} - set(names_in(SCHEMA))
    assert not missing
