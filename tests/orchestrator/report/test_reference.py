"""docs/results.md and the schemas say what the models say, and what the models write follows the schemas."""

import json
from pathlib import Path

import jsonschema
import pytest

from orchestrator.report.reference import SCHEMAS, page, write
from tests.orchestrator.report.sample_runs import make_results

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    "name", ["results.md", "settings.md", *(f"{name}.schema.json" for name in (*SCHEMAS, "experiment"))]
)
def test_the_committed_files_are_what_the_models_say(tmp_path, name):
    write(tmp_path)
    assert (DOCS / name).read_text() == (tmp_path / name).read_text(), "run make docs"


def test_fields_are_named_as_scripts_reach_them():
    lines = page().splitlines()
    assert "| `complexity.bytes` | 2 x non-zero, the challenge's rule |" in lines
    assert "| `device` | the GPU's name, or cpu |" in lines  # of a row of metrics.jsonl
    assert any(line.startswith("| `models.teachers.NAME` | a report (below)") for line in lines)
    assert any(line.startswith("| `stages[].folders` |") for line in lines)


def test_results_follow_the_schema():
    schema = json.loads((DOCS / "results.schema.json").read_text())
    jsonschema.validate(make_results(), schema)
    with pytest.raises(jsonschema.ValidationError, match="select_by"):
        jsonschema.validate({**make_results(), "select_by": 1}, schema)
