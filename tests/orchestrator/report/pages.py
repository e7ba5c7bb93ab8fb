"""An HTML page as a reader meets it: text (with plain apostrophes), tables by caption, attributes."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from orchestrator.report.build import write_report


@dataclass
class Table:
    """Rows of cell texts in document order, headings included."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)
    marked: list[str] = field(default_factory=list)  # first cells of the rows that stand out

    def row(self, first: str) -> list[str]:
        """The cells after the one that says `first`."""
        (found,) = (row for row in self.rows if row and row[0] == first)
        return found[1:]

    def column(self, heading: str) -> list[str]:
        index = self.rows[0].index(heading)
        return [row[index] for row in self.rows[1:]]


class Page(HTMLParser):
    """Parses on construction. Text of scripts and styles is kept apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[Table] = []
        self.scripts: dict[str, str] = {}
        self.parts: list[str] = []
        self.open: list[str] = []
        self.script = ""
        self.feed(text)
        self.close()

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    def figures(self) -> dict[str, Any]:
        return json.loads(self.scripts["figures"])

    def table(self, start: str) -> Table:
        """The table whose caption starts with `start`."""
        (found,) = (table for table in self.tables if table.caption.startswith(start))
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self.open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
            self.row_is_marked = values.get("class") == "chosen"
        elif tag in ("th", "td"):
            self.tables[-1].rows[-1].append("")
        elif tag in ("script", "style"):
            self.script = values.get("id") or tag
            self.scripts[self.script] = ""

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass
        if tag == "tr" and self.row_is_marked:
            self.tables[-1].marked.append(self.tables[-1].rows[-1][0])

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts[self.script] += data
            return
        self.parts.append(data)
        if "caption" in self.open:
            self.tables[-1].caption = " ".join((self.tables[-1].caption + data).split())
        elif {"td", "th"} & set(self.open):
            row = self.tables[-1].rows[-1]
            row[-1] = " ".join(f"{row[-1]} {data}".split())


def read(run: Path) -> Page:
    """Write the report of `run` and read it."""
    return Page(write_report(run).read_text(encoding="utf-8"))
