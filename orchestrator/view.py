"""What a person sees while it runs: one steady view in a terminal, plain lines elsewhere, everything in the log."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger("stillhouse")
PLAIN_INTERVAL = 15.0  # seconds between plain lines of one stage


class Bar:
    """Progress of the current stage."""

    def __init__(self, view: "View", stage: str, progress: Progress | None) -> None:
        self.view, self.stage, self.progress = view, stage, progress
        self.task = progress.add_task(stage, total=None, detail="") if progress else None
        self.started = self.last = time.monotonic()
        self.detail = ""

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Say how far the stage is, in whatever units `total` is."""
        self.detail = detail
        now = time.monotonic()
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=total, detail=detail)
        elif now - self.last >= PLAIN_INTERVAL and done < total:
            self.last = now
            left = (now - self.started) / done * (total - done) if done else None
            remaining = f", about {duration(left)} left" if left is not None else ""
            self.view.line(f"  {self.stage}: {100 * done / total:.0f} %{remaining}  {detail}")


class View:
    """The terminal side of one run."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        log.info(text.strip())
        self.console.print(text, highlight=False, markup=False)

    def reused(self, stage: str, detail: str) -> None:
        self.line(f"= {stage:<10} reused  {detail}")

    @contextmanager
    def stage(self, stage: str) -> Iterator[Bar]:
        log.info("%s started", stage)
        started = time.monotonic()
        if self.console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description:<10}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                bar = Bar(self, stage, progress)
                yield bar
        else:
            self.console.print(f"> {stage}", highlight=False, markup=False)
            bar = Bar(self, stage, None)
            yield bar
        self.line(f"+ {stage:<10} {duration(time.monotonic() - started):>6}  {bar.detail}")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
