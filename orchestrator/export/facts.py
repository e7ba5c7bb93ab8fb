"""What lies beside an exported file: what it expects, and how its outputs are read. Without torch."""

from pathlib import Path
from typing import NotRequired, TypedDict

from features.settings import FrontEnd
from orchestrator.storage.files import damaged
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
    facts = read_typed(Facts, path)
    problem = contradiction_in(facts)
    if problem:
        raise damaged(path, problem)
    return facts


def contradiction_in(facts: Facts) -> str | None:
    """What of the values does not fit the others; None where all do."""
    groups, group_of_scene = facts.get("groups", []), facts.get("group_of_scene", [])
    if facts.get("decision") == "combined" and not group_of_scene:
        return "it combines groups that it does not have"
    is_of_scenes = len(group_of_scene) == len(facts["scenes"])
    if group_of_scene and not (is_of_scenes and set(group_of_scene) <= set(range(len(groups)))):
        return "its group_of_scene does not fit its scenes and groups"
    shifts = facts.get("test_shifts", [0])
    if not shifts or max(map(abs, shifts)) > facts["front_end"].frames:
        return "its test_shifts are none of its clips'"
    bins = facts["front_end"].n_fft // 2 + 1
    if any(len(response) != bins for response in facts.get("responses", {}).values()):
        return "its responses do not fit its front end"
    return None
