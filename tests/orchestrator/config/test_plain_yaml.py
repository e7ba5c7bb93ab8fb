"""YAML 1.2's core schema by its own examples; hostile files in one line; what is written is read as it was."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.plain_yaml import MOST_VALUES, dump_yaml, parse_yaml
from orchestrator.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),  # 8 in YAML 1.1
        ("0o10", 8),
        ("0x1F", 31),
        ("1:30", "1:30"),  # 90 in YAML 1.1
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("1e-3", 0.001),  # text in YAML 1.1
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("'010'", "010"),
        ("+12", 12),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    found = parse_yaml(text, "x")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is there twice"),
        ("{a: {b: 1, b: 2}}", "'b' is there twice"),
        (
            "!!python/object/apply:os.system ['true']",
            "tags such as tag:yaml.org,2002:python/object/apply:os.system are not",
        ),
        ("!own x", "tags such as !own are not read"),
        ("!!binary aGk=", "tags such as tag:yaml.org,2002:binary are not read"),
        ("!!timestamp 2024-01-01", "are not read"),
        ("!!int many", "tags such as tag:yaml.org,2002:int are not read"),
        ("!!bool yes", "tags such as tag:yaml.org,2002:bool are not read"),  # which would be false
        ("! x", "tags such as ! are not read"),
        (".nan", "is no setting"),
        ("1e999", "is no setting"),
        ("a: [1", "is not valid YAML"),
        ("--- 1\n--- 2", "single document"),
        ("9" * 5000, "a number of 5,000 digits is no setting"),
        ("0x" + "f" * 5000, "a number of 5,002 digits is no setting"),
        ("0o" + "7" * 5000, "a number of 5,002 digits is no setting"),
        ("0." + "7" * 5000, "a number of 5,002 digits is no setting"),
        ("# " + "x" * 200_000, "more than 200,000 letters"),
        ('"a\\0b"', "a NUL"),
        ('{"\\ud800": 1}', "half of a surrogate pair"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("&a [*a]", "nested too deeply"),
        ("? [1]\n: 2", "unhashable"),
        ("\x00", "is not valid YAML"),
        ("a: *nowhere", "undefined alias"),
    ],
)
def test_whatever_is_no_plain_data_is_one_line(text, reason):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "file.yaml")
    message = str(caught.value)
    assert message.startswith("file.yaml is not valid YAML: ") and reason in message and "\n" not in message


def test_aliases_that_explode_are_refused_at_once():
    """Nine times nine times nine...: a million million values, of which no copy is begun."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
    ]
    with pytest.raises(UserError, match=f"more than {MOST_VALUES:,} values"):
        parse_yaml("\n".join(lines), "x")


def test_a_merged_key_is_a_key_like_others():
    """YAML 1.2 has none; PyYAML lets a value win that was overridden (a merged mapping that merges another)."""
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 3}", "x")["b"] == {"<<": {"x": 1}, "y": 3}


def test_what_an_anchor_repeats_is_a_copy():
    tree = parse_yaml("a: &a {x: 1}\nb: *a", "x")
    tree["a"]["x"] = 2
    assert tree["b"] == {"x": 1}


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
TREES = st.recursive(
    LEAVES, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXTS, inside, max_size=4), max_leaves=20
)


@given(TREES)
def test_what_is_written_is_read_as_it_was(tree):
    assert parse_yaml(dump_yaml(tree), "x") == tree


@pytest.mark.parametrize("text", ["010", "1e5", "0o10", "no", "1:30", "2024-01-01", "null", "~", "<<", "=", ".nan"])
def test_text_that_looks_like_something_else_stays_text(text):
    assert parse_yaml(dump_yaml({"name": text, text: 1}), "x") == {"name": text, text: 1}
