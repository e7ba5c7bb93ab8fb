"""What is proposed as corpus.layout.pattern fits the names that are there."""

import re

import pytest

from features.patterns import fitting_pattern
from tests.features.test_folders import SPLITS

SPLIT_OF = {value: split for split, values in SPLITS.items() for value in values}


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["train_a.wav", "test_b.flac"], "(?P<split>train|test)"),
        (["lunch_1_train.wav", "dinner_2_test.wav", "x_3_train.wav"], r"(?:[^_]*_){2}(?P<split>train|test)"),
        (["a-b.train.x.wav", "c.test.wav"], r"(?:[^\.]*\.){1}(?P<split>train|test)"),
        (["one dev.wav", "two eval.wav", "3 train.wav"], r"(?:[^\ ]*\ ){1}(?P<split>train|eval|dev)"),
        (["train-1_test.wav", "test-1_test.wav"], "(?P<split>train|test)"),
        (["train_a.wav", "train_b.wav"], None),
        (["train_a.wav", "b.wav"], None),
        (["a.wav", "b.wav"], None),
        ([], None),
    ],
)
def test_by_names(names, pattern):
    assert fitting_pattern(names, SPLIT_OF) == pattern
    for name in names if pattern else []:
        found = re.match(pattern or "", name)
        assert found and found["split"] in name and found["split"] in SPLIT_OF


def test_a_fold_is_not_taken_for_the_start_of_another():
    pattern = fitting_pattern(["1-a.wav", "10-b.wav"], {"1": "train", "10": "test"})
    assert pattern == "(?P<split>10|1)"
    assert [re.match(pattern, name)["split"] for name in ("1-a.wav", "10-b.wav")] == ["1", "10"]  # pyright: ignore
