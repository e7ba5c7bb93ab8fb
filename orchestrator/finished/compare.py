"""What differs between two runs: settings, recordings, versions, results."""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.config.reading import read_yaml
from orchestrator.report.schema import Results
from orchestrator.storage.files import read_json
from orchestrator.storage.runs import CONFIG, RESULTS, VERSIONS

ABSENT = "-"
# In results.json: its form, keys and dates, long lists, and what follows from the exported file's own figures.
NOT_COMPARED = {
    "schema",
    "artifacts",
    "paths",
    "finished",
    "quarantine",
    "notes",
    "confusion",
    "per_class",
    "per_device",
}
NOT_COMPARED |= {"tried", "weights", "fp16", "torch", "onnx", "export", "candidates", "seeds"}


def compare(first: Path, second: Path, console: Console) -> bool:
    """Print a table of what differs, by section; returns whether anything does."""
    sections: dict[str, Callable[[Path], object]] = {
        "settings": lambda run: read_yaml(run / CONFIG),
        "versions": lambda run: read_json(run / VERSIONS),
        "results": lambda run: Results.read(run / RESULTS).as_json(),
    }
    differs = False
    for section, read in sections.items():
        left_out = NOT_COMPARED if section == "results" else set()
        rows = list(differences(*(flat(read(run), left_out) for run in (first, second))))
        if not rows:
            console.print(f"{section}: equal", highlight=False)
            continue
        differs = True
        table = Table(title=section, title_justify="left", box=None, pad_edge=False)
        for name in ("", first.name, second.name):
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table, highlight=False, markup=False)
    return differs


def differences(first: Mapping[str, object], second: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Name and both values of each entry that is not the same in both."""
    for name in dict.fromkeys((*first, *second)):
        if first.get(name, ABSENT) != second.get(name, ABSENT):
            yield name, shown(first.get(name, ABSENT)), shown(second.get(name, ABSENT))


def flat(value: object, left_out: Collection[str] = (), name: str = "") -> dict[str, Any]:
    """A tree of values as one level: {"a": {"b": 1}} -> {"a.b": 1}, without what is `left_out` at any level."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    entries: dict[str, Any] = {}
    for key, part in value.items():
        if str(key) not in left_out:
            entries |= flat(part, left_out, f"{name}.{key}" if name else str(key))
    return entries


def shown(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
