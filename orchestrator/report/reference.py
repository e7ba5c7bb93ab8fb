"""docs/results.md, docs/settings.md and the JSON schemas, made of the models that write and read the files.

`make docs` writes them, and a test holds that the committed ones are equal.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.config.explained import settings
from orchestrator.config.json_schema import experiment_schema
from orchestrator.monitor.schema import RunStatus
from orchestrator.report.schema import Average, Part, Report, Results, Systems
from orchestrator.storage.record import Record
from orchestrator.training.record import Training
from orchestrator.training.rows import StageRow
from orchestrator.training.table import TrialRow

SCHEMAS: dict[str, type[Record]] = {"results": Results, "systems": Systems, "status": RunStatus}
OWN_TABLE: dict[type[BaseModel], str] = {Report: "a report", Part: "a part", Average: "an average"}

PAGE = """\
# RUN/results.json

Made from the models in orchestrator/report/schema.py and orchestrator/monitor/schema.py by `make docs`: change those.
As JSON schema: results.schema.json, systems.schema.json and status.schema.json, beside this page.

While `schema` stays {schema}, fields are added, never changed. Files of schema {oldest} to {schema} are read;
{changes}

{summary}

{results}

A report:

{report}

A part:

{part}

An average:

{average}

Beside it: `quarantine.csv` (path, reason), `trials.parquet` and `metrics.jsonl`.

## RUN/trials.parquet

A row a trial of the search:

{trials}

## RUN/metrics.jsonl

A line an epoch of every training:

{rows}

## RUN/status.json

{status_summary}

{status}

`folders` that hold trainings have `trials/NAME/trial.json` and `trials/NAME/rows.jsonl`, the lines of metrics.jsonl
without `stage` and `trial`. trial.json:

{training}

## results.json of a set of systems

{systems_summary}

{systems}
"""
CHANGES = (
    "schema 2 has `distilled`, and `models.ensemble` and `averages.distilled` may be null; schema 4 has "
    "`corpus.located`."
)


def write(folder: Path) -> None:
    """Write the page and the schemas into `folder`."""
    (folder / "results.md").write_text(page(), encoding="utf-8")
    (folder / "settings.md").write_text(settings_page(), encoding="utf-8")
    for name, model in SCHEMAS.items():
        (folder / f"{name}.schema.json").write_text(schema_of(model), encoding="utf-8")
    (folder / "experiment.schema.json").write_text(json.dumps(experiment_schema(), indent=1) + "\n", encoding="utf-8")


SETTINGS = """\
# Settings

Every setting of an experiment, from the code by `make docs`. `stillhouse config explain KEY` prints a part of it,
`stillhouse config show EXPERIMENT` an experiment with each of its values explained; experiment.schema.json, beside this
page, is for editors (docs/first-day.md). NAME is a teacher's own name. A
setting behind which a row of a table stands in brackets, such as (of mobnet), is there where that row is chosen.

| setting | value | default | what it does |
|---|---|---|---|
{rows}
"""


def settings_page() -> str:
    """docs/settings.md."""
    rows = []
    for one in settings():
        name = f"`{one.name}`" + (f" (of {one.row})" if one.row else "")
        cells = (name, one.kind, f"`{one.default}`" if one.default else "", one.about)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return SETTINGS.format(rows="\n".join(rows))


def schema_of(model: type[Record]) -> str:
    return json.dumps(model.model_json_schema(mode="serialization"), indent=1) + "\n"


def page() -> str:
    """docs/results.md, made from the models of results.json."""
    return PAGE.format(
        schema=Results.newest,
        oldest=Results.oldest,
        changes=CHANGES,
        summary=summary(Results),
        results=table(entries(Results)),
        report=table(entries(Report)),
        part=table(entries(Part)),
        average=table(entries(Average)),
        trials=table(annotated(TrialRow)),
        rows=table(annotated(StageRow)),
        status_summary=summary(RunStatus),
        status=table(entries(RunStatus)),
        training=table(annotated(Training)),
        systems_summary=summary(Systems),
        systems=table(entries(Systems)),
    )


def summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip()


def table(rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in rows]
    return "\n".join(["| field | content |", "|---|---|", *lines])


def entries(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, description) of every field, those of nested models after their own."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        nested, suffix = nested_in(field.annotation)
        assert field.description, f"{model.__name__}.{name} has no description"
        if nested in OWN_TABLE:
            yield f"{path}{suffix}", f"{OWN_TABLE[nested]} (below): {field.description}"
            continue
        yield path, with_default(field)
        if nested is not None:
            yield from entries(nested, f"{path}{suffix}.")


def with_default(field: FieldInfo) -> str:
    is_absent = not field.is_required() and field.default is not None
    return f"{field.description} (not in older files)" if is_absent else str(field.description)


def nested_in(kind: Any, suffix: str = "") -> tuple[type[BaseModel] | None, str]:
    """The model that an annotation leads to, and what stands for the way: .NAME for a mapping's keys, [] for a list."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, suffix
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return nested_in(arguments[1], f"{suffix}.NAME")
    if get_origin(kind) in (list, tuple):
        return nested_in(arguments[0], f"{suffix}[]")
    found = [nested_in(argument, suffix) for argument in arguments if argument is not type(None)]
    return next((each for each in found if each[0] is not None), (None, ""))


def annotated(kind: type) -> Iterator[tuple[str, str]]:
    """(name, description) of the fields of a typed dictionary or a dataclass whose annotations describe them."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        while get_origin(hint) is not Annotated:  # ReadOnly, NotRequired
            (hint,) = get_args(hint)
        yield name, str(get_args(hint)[1])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
