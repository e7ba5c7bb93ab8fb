"""The pattern that would tell splits by the names of recordings that are there."""

import re
from collections.abc import Mapping, Sequence

from features.corpus import TEST, TRAIN

SEPARATORS = "-_ ."


def fitting_pattern(names: Sequence[str], split_of: Mapping[str, str]) -> str | None:
    """A regular expression with the group split, for parts between separators; None where no part is a split's value.

    `names` are file names, `split_of` is value -> split. The part is the first that is such a value in every name, and
    that tells at least training from test recordings.
    """
    stems = [name.rpartition(".")[0] for name in names]
    for separator in SEPARATORS:
        parts = [stem.split(separator) for stem in stems]
        for index in range(min(map(len, parts), default=0)):
            values = {part[index] for part in parts}
            if values <= split_of.keys() and {TRAIN, TEST} <= {split_of[value] for value in values}:
                one = re.escape(separator)
                before = f"(?:[^{one}]*{one}){{{index}}}" if index else ""
                longest_first = sorted(values, key=lambda value: (-len(value), value))  # 10 before 1
                return f"{before}(?P<split>{'|'.join(map(re.escape, longest_first))})"
    return None
