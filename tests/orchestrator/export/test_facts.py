"""What lies beside an exported file fits together, or the file is damaged."""

import json
import re
from typing import Any

import pytest

from orchestrator.errors import Unreadable
from orchestrator.export.facts import read_facts

FACTS: dict[str, Any] = {
    "front_end": {"sample_rate": 8000, "clip_seconds": 1.0, "n_fft": 256, "hop_length": 128, "n_mels": 16},
    "scenes": ["bus", "metro", "park"],
    "groups": ["inside", "outside"],
    "group_of_scene": [0, 0, 1],
    "outputs": ["scene", "group"],
    "decision": "combined",
    "test_shifts": [0, 4],
    "responses": {"b": [1.0] * 129},
}


def test_what_fits_is_read(tmp_path):
    file = tmp_path / "student.json"
    file.write_text(json.dumps(FACTS))
    facts = read_facts(file)
    assert facts["front_end"].frames == 63 and facts["scenes"] == ["bus", "metro", "park"]


def test_a_file_of_an_older_run_may_lack_what_it_did_not_know(tmp_path):
    file = tmp_path / "student.json"
    file.write_text(json.dumps({name: FACTS[name] for name in ("front_end", "scenes")}))
    assert set(read_facts(file)) == {"front_end", "scenes"}


def test_a_shift_may_be_as_long_as_a_clip(tmp_path):
    file = tmp_path / "student.json"
    file.write_text(json.dumps(FACTS | {"test_shifts": [-63, 63]}))
    assert read_facts(file).get("test_shifts") == [-63, 63]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"group_of_scene": None}, "it combines groups that it does not have"),
        ({"groups": None}, "its group_of_scene does not fit its scenes and groups"),
        ({"group_of_scene": [0, 1]}, "its group_of_scene does not fit its scenes and groups"),
        ({"group_of_scene": [0, 0, 2]}, "its group_of_scene does not fit its scenes and groups"),
        ({"group_of_scene": [0, 0, 10**400]}, "its group_of_scene does not fit its scenes and groups"),
        ({"test_shifts": []}, "its test_shifts are none of its clips'"),
        ({"test_shifts": [64]}, "its test_shifts are none of its clips'"),
        ({"responses": {"b": [1.0]}}, "its responses do not fit its front end"),
        ({"scenes": ["bus", "\ud800", "park"]}, ".*surrogates not allowed"),
        ({"scenes": "bus"}, "scenes: Input should be a valid list"),
    ],
)
def test_what_does_not_is_damage(tmp_path, change, reason):
    file = tmp_path / "student.json"
    file.write_text(json.dumps({name: value for name, value in (FACTS | change).items() if value is not None}))
    with pytest.raises(Unreadable, match=rf"^{re.escape(str(file))} is damaged \({reason}\); give"):
        read_facts(file)
