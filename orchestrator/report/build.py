"""report/index.html and the model card, from the run's folder alone."""

import base64
import gzip
import hashlib
import html
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from features.notes import by_note
from models.specs import LARGEST
from orchestrator.config.plain_yaml import parse_yaml
from orchestrator.report import tables
from orchestrator.report.advice import TITLE, advice
from orchestrator.report.charts import learning_curves, parallel_coordinates
from orchestrator.report.folder import RunFolder
from orchestrator.report.formats import FILTERS
from orchestrator.report.schema import Report, Results
from orchestrator.report.sizes import size_chart
from orchestrator.report.trials import STATES, importances, in_order
from orchestrator.storage.runs import CONFIG, MODEL_CARD, REPORT

TEMPLATES = Path(__file__).parent

# Sections of the page, anchor and title, by what they need.
EVALUATED = (("comparison", "Comparison"), ("classes", "Classes"), ("devices", "Devices"), ("confusion", "Confusions"))
COMPARED = (("distillation", "Distillation"),)
SEARCHED = (("search", "Search"),)
ALWAYS = (
    ("curves", "Learning curves"),
    ("averages", "Averages"),
    ("cost", "Size and time"),
    ("corpus", "Corpus"),
    ("record", "Record"),
)


def write_report(run: Path) -> Path:
    """Write RUN/report/index.html, one file that needs nothing else, and return its path. Raises UserError."""
    page = environment(autoescape=True).get_template("index.html.j2").render(context(RunFolder.read(run)))
    path = run / REPORT
    path.parent.mkdir(exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def write_model_card(run: Path) -> None:
    """Write RUN/model_card.md. Raises UserError."""
    folder = RunFolder.read(run)
    values = {
        "results": folder.results,
        "run": folder,
        "systems": tables.systems(folder.results),
        "limit": limit_in(folder.config),
        "challenge": LARGEST,
    }
    card = environment(autoescape=False, finalize=as_markdown).get_template("model_card.md.j2").render(values)
    (run / MODEL_CARD).write_text(card, encoding="utf-8")


def environment(**options: Any) -> Environment:
    """Jinja over this folder, in which a misspelt name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options
    )
    made.filters |= FILTERS
    return made


def as_markdown(value: Any) -> Any:
    """Text that Markdown shows as it is, in a table's cell too."""
    if not isinstance(value, str):
        return value
    text = html.escape(re.sub(r"\s*[\r\n]+\s*", " ", value), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*[]|" else letter for letter in text)


def context(run: RunFolder) -> dict[str, object]:
    """All that the page shows."""
    results = run.results
    shares, reason = importances(run.trials, run.select_by)
    charts = {f"curves-{stage}": chart for stage, chart in learning_curves(run).items()}
    sizes = size_chart(run)
    if sizes:
        charts["sizes"] = sizes
    parallel = parallel_coordinates(run)
    if parallel:
        charts["parallel"] = parallel
    states = [trial.state for trial in run.trials]
    lines = advice(results, space_in(run.config))
    return {
        "results": results,
        **(evaluation(results, results.product) if results.product else {"systems": []}),
        "run": run,
        "limit": limit_in(run.config),
        "uniform_log_loss": math.log(len(results.scenes)),
        "trials": in_order(run.trials, run.best, run.select_by),
        "states": {state: states.count(state) for state in STATES if state in states},
        "importances": shares,
        "no_importances": reason,
        "charts": charts,
        "figures": {name: chart.figure for name, chart in charts.items()},
        "plotly": packed_plotly() if charts else "",
        "script": script(),
        "policy": policy(script(), get_plotlyjs()) if charts else policy(),
        "next_title": TITLE,
        "advice": lines,
        "note_groups": by_note(results.corpus.notes),
        "sections": [
            *(EVALUATED[:1] if results.models else ()),
            *(COMPARED if results.models and results.models.distilled_minus_plain else ()),
            *(EVALUATED[1:] if results.models else ()),
            *(SEARCHED if results.best_trial else ()),
            *ALWAYS,
            *((("next", TITLE),) if lines else ()),
        ],
    }


def space_in(config: str) -> dict[str, Any]:
    """search.space of a run's config.yaml."""
    tree = parse_yaml(config, CONFIG)
    search = tree.get("search") if isinstance(tree, dict) else None
    space = search.get("space") if isinstance(search, dict) else None
    return space if isinstance(space, dict) else {}


def limit_in(config: str) -> int | None:
    """limits.bytes of a run's config.yaml; the challenge's in an older one, None where there is no limit."""
    tree = parse_yaml(config, CONFIG)
    limits = tree.get("limits") if isinstance(tree, dict) else None
    value = limits.get("bytes", LARGEST) if isinstance(limits, dict) else LARGEST
    return value if isinstance(value, int) and value > 0 else None


def evaluation(results: Results, product: Report) -> dict[str, object]:
    """The tables of what was measured on the test split."""
    return {
        "systems": tables.systems(results),
        "class_table": tables.classes(results),
        "compared": list(tables.columns(results)),
        "devices": tables.devices(results),
        "confusion": tables.confusion(results.scenes, product),
    }


@cache
def packed_plotly() -> str:
    """plotly.js in gzip and base64: 2 MB of the page instead of 5; charts.js unpacks it with what browsers have."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


@cache
def script() -> str:
    """The one script of the page: it unpacks plotly.js and draws the charts."""
    return (TEMPLATES / "charts.js").read_text(encoding="utf-8")


@cache
def policy(*scripts: str) -> str:
    """What a browser may run and load in a page: these scripts, known by their digests, and no other file."""
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts)
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    rules = (
        "default-src 'none'",
        f"script-src {sources or "'none'"}",
        "style-src 'unsafe-inline'",  # plotly writes style attributes
        "img-src data: blob:",  # the icon, and the pictures of charts that people save
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)
