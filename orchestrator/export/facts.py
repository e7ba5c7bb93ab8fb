"""What lies beside an exported file: what it expects, and how its outputs are read. Without torch."""

from pathlib import Path
from typing import NotRequired, TypedDict

from features.settings import FrontEnd
from orchestrator.storage.typed import read_typed


class Facts(TypedDict):
    """The JSON file beside a model; files of older runs lack some."""

    front_end: FrontEnd
    scenes: list[str]
    groups: NotRequired[list[str]]
    group_of_scene: NotRequired[list[int]]
    outputs: NotRequired[list[str]]
    decision: NotRequired[str]  # scene or combined
    test_shifts: NotRequired[list[int]]
    responses: NotRequired[dict[str, list[float]]]  # device -> response, where recordings were corrected


def read_facts(path: Path) -> Facts:
    """Raises Unreadable where the file is not as a run writes it."""
    return read_typed(Facts, path)
