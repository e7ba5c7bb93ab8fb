"""Predictions as text: lines for a person, CSV, JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

RUNNERS_UP = 2
type Echo = Callable[[str], None]


@dataclass(frozen=True)
class Prediction:
    """Of one recording."""

    seconds: float
    starts: Sequence[float]  # of the windows, in seconds
    windows: Tensor  # probabilities (window, scene)
    notes: tuple[str, ...]  # what was done to the recording

    @property
    def scene(self) -> Tensor:
        """Probabilities (scene,): the mean over the windows."""
        return self.windows.mean(0)


class Writer(Protocol):
    def prediction(self, path: Path, scenes: Sequence[str], prediction: Prediction) -> None:
        """Write one recording's prediction."""
        ...

    def refused(self, path: Path, reason: str) -> None:
        """Write why a recording was not predicted."""
        ...

    def end(self) -> None:
        """Write what comes after the last recording."""
        ...


class Lines:
    """A line a recording: its scene with its probability, the runners-up, notes; then, if wanted, one a window."""

    def __init__(self, echo: Echo, windows: bool) -> None:
        self.echo, self.windows = echo, windows

    def prediction(self, path: Path, scenes: Sequence[str], prediction: Prediction) -> None:
        count = len(prediction.starts)
        notes = [*prediction.notes, *([f"mean of {count} windows"] if count > 1 else [])]
        self.echo(f"{shown(path)}\t{ranked(prediction.scene, scenes)}" + (f"\t({'; '.join(notes)})" if notes else ""))
        for start, window in zip(prediction.starts, prediction.windows, strict=True) if self.windows else ():
            self.echo(f"{shown(path)}\t{start:.2f} s\t{ranked(window, scenes)}")

    def refused(self, path: Path, reason: str) -> None:
        self.echo(f"{shown(path)}\t{reason}")

    def end(self) -> None:
        """Every line is written by then."""


class Csv:
    """A row a recording or, if wanted, a window: path, start in seconds, scene, notes, refusal, probabilities."""

    def __init__(self, echo: Echo, windows: bool) -> None:
        self.echo, self.windows = echo, windows
        self.columns: Sequence[str] | None = None
        self.waiting: list[tuple[Path, str]] = []  # refused before the scenes were known, which name the columns

    def prediction(self, path: Path, scenes: Sequence[str], prediction: Prediction) -> None:
        self.head(scenes)
        rows = [(0.0, prediction.scene)]
        if self.windows:
            rows = list(zip(prediction.starts, prediction.windows, strict=True))
        for start, row in rows:
            values = [f"{share:.6f}" for share in row.tolist()]
            self.row(shown(path), f"{start:.3f}", scenes[int(row.argmax())], "; ".join(prediction.notes), "", *values)

    def refused(self, path: Path, reason: str) -> None:
        if self.columns is None:
            self.waiting.append((path, reason))
        else:
            self.row(shown(path), "", "", "", reason, *("" for _ in self.columns))

    def head(self, scenes: Sequence[str]) -> None:
        if self.columns is None:
            self.columns = scenes
            self.row("path", "start", "scene", "notes", "refused", *scenes)
            for path, reason in self.waiting:
                self.refused(path, reason)

    def row(self, *values: object) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(values)
        self.echo(text.getvalue())

    def end(self) -> None:
        self.head(())


class Json:
    """One list, an object for each recording."""

    def __init__(self, echo: Echo, windows: bool) -> None:
        self.echo, self.windows, self.is_first = echo, windows, True

    def prediction(self, path: Path, scenes: Sequence[str], prediction: Prediction) -> None:
        found: dict[str, Any] = {"path": shown(path), "seconds": round(prediction.seconds, 3)}
        found |= shares(prediction.scene, scenes) | {"notes": list(prediction.notes)}
        if self.windows:
            rows = zip(prediction.starts, prediction.windows, strict=True)
            found["windows"] = [{"start": round(start, 3), **shares(window, scenes)} for start, window in rows]
        self.object(found)

    def refused(self, path: Path, reason: str) -> None:
        self.object({"path": shown(path), "refused": reason})

    def object(self, found: dict[str, Any]) -> None:
        self.echo(("[" if self.is_first else ",") + json.dumps(found))
        self.is_first = False

    def end(self) -> None:
        self.echo("[]" if self.is_first else "]")


WRITERS = {"lines": Lines, "csv": Csv, "json": Json}


def shown(path: Path) -> str:
    """A name on one line: bytes that are not UTF-8 as numbers, which no output takes otherwise."""
    text = str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def ranked(probabilities: Tensor, scenes: Sequence[str]) -> str:
    """Such as "park 0.812, bus 0.100, metro 0.042"."""
    best = probabilities.topk(min(1 + RUNNERS_UP, len(probabilities)))
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return ", ".join(f"{scenes[index]} {value:.3f}" for value, index in pairs)


def shares(probabilities: Tensor, scenes: Sequence[str]) -> dict[str, Any]:
    values = [round(value, 6) for value in probabilities.tolist()]
    return {"scene": scenes[int(probabilities.argmax())], "probabilities": dict(zip(scenes, values, strict=True))}
