"""YAML as its version 1.2 reads it (the core schema), without what no settings need: tags, binary, dates, merged keys.

PyYAML reads 1.1, where 010 is 8, 1:30 is 90, and no is false. What is written here is read here as it was.
"""

import math
import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from orchestrator.errors import UserError

MOST_VALUES = 100_000  # what aliases repeat counts as often
MOST_LETTERS = 200_000  # of a file: PyYAML reads some 100,000 a second
MOST_DIGITS = 400  # of a number; the largest float has 309
NO_TEXT = re.compile(r"[\0\ud800-\udfff]")  # neither a file's name nor UTF-8 holds these
RESOLVERS = [  # of section 10.3.2, in the order in which they are tried
    ("tag:yaml.org,2002:null", r"null|Null|NULL|~|", "nN~\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
]


class Loader(yaml.SafeLoader):
    """Settings as a person means them."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - of PyYAML, which fills them by class
    yaml_constructors: dict[Any, Any] = {}  # noqa: RUF012

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Raises ConstructorError for a value with a tag, whose sense settings do not have."""
        event: Any = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise ConstructorError(None, None, f"tags such as {tag} are not read", event.start_mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Raises ConstructorError for a key that is written twice: the second would silently win."""
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if (key.tag, key.value) in seen:
                    raise ConstructorError(None, None, f"'{key.value}' is there twice", key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def whole(self, node: ScalarNode) -> int:
        text = self.number(node)
        return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)

    def number(self, node: ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        if len(text) > MOST_DIGITS:
            raise ConstructorError(None, None, f"a number of {len(text):,} digits is no setting", node.start_mark)
        return text

    def real(self, node: ScalarNode) -> float:
        text = self.number(node).lower()
        value = float("nan") if text == ".nan" else float(text.replace(".inf", "inf"))
        if math.isnan(value) or (math.isinf(value) and "inf" not in text):
            raise ConstructorError(None, None, f"{text} is no setting", node.start_mark)
        return value

    def truth(self, node: ScalarNode) -> bool:
        return str(self.construct_scalar(node)).lower() == "true"


class Dumper(yaml.SafeDumper):
    """Quotes what the loader would not read as the text that it is."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for tag, pattern, first in RESOLVERS:
    for kind in (Loader, Dumper):
        letters = ["" if letter == "\0" else letter for letter in first]
        kind.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), letters)
for tag, construct in (
    ("null", yaml.SafeLoader.construct_yaml_null),
    ("bool", Loader.truth),
    ("int", Loader.whole),
    ("float", Loader.real),
    ("str", yaml.SafeLoader.construct_yaml_str),
    ("seq", yaml.SafeLoader.construct_yaml_seq),
    ("map", yaml.SafeLoader.construct_yaml_map),
):
    Loader.add_constructor(f"tag:yaml.org,2002:{tag}", construct)


def parse_yaml(text: str, where: str) -> Any:
    """The values of `text`. What an anchor repeats becomes a copy, so that changing one leaves the other alone.

    Raises UserError, one line, for whatever is no YAML, no plain data, or far more than settings are.
    """
    try:
        if len(text) > MOST_LETTERS:
            raise ValueError(f"it has more than {MOST_LETTERS:,} letters")
        return unshared(yaml.load(text, Loader), [MOST_VALUES])  # a SafeLoader
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", line', "in line")
        raise UserError(f"{where} is not valid YAML: {reason}") from None
    except RecursionError:
        raise UserError(f"{where} is not valid YAML: it is nested too deeply") from None
    except ValueError as error:  # such as a number of 5,000 digits
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def unshared(value: Any, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"it has more than {MOST_VALUES:,} values")
    if isinstance(value, str) and NO_TEXT.search(value):
        raise ValueError("a text has a NUL or half of a surrogate pair")
    if isinstance(value, dict):
        return {unshared(key, left): unshared(part, left) for key, part in value.items()}
    return [unshared(part, left) for part in value] if isinstance(value, list) else value


def dump_yaml(value: Any) -> str:
    """Plain values as YAML, keys in their order."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False)
