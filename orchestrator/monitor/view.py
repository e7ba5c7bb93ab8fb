"""What a person sees while it runs: one steady view in a terminal, plain lines elsewhere, everything in the log."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from orchestrator.monitor.status import StageStatus, Status
from orchestrator.storage.lease import Holder

log = logging.getLogger("stillhouse")
PLAIN_INTERVAL = 15.0  # seconds between plain lines of one stage
NARROW = 60  # columns of a terminal below which the bar is short and the time since the start is left out


class LiveBar(Progress):
    """A stage's bar, per cent and time left in a line; what it does is below, in as many lines as it needs."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Called by rich at every refresh."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["detail"]:
                yield Padding(Text(task.fields["detail"], overflow="fold", no_wrap=False), (0, 0, 0, 2))


class Bar:
    """Progress of the current stage."""

    def __init__(self, view: "View", stage: str, progress: Progress | None, status: StageStatus) -> None:
        self.view, self.stage, self.progress, self.status = view, stage, progress, status
        self.task = progress.add_task(stage, total=None, detail="") if progress else None
        self.started = self.last = time.monotonic()
        self.before: float | None = None  # how far an earlier run came, which does not count for this one's speed
        self.maker: str | None = None  # the run whose work on the stage was waited for
        self.is_reused = False  # whether all of the stage turned out to be finished

    def about(self, detail: str) -> None:
        """Show the result of the stage, or of a part of it."""
        self.status.detail = detail

    def made_in(self, *folders: Path) -> None:
        """Record where the stage's work and artifacts are: the live page reads them, and `clean` keeps them."""
        self.status.folders = list(folders)

    def wait(self, holder: Holder) -> None:
        """Show that another run makes this, who that is, and how far."""
        maker = f"made by {holder.job} on node {holder.host}"
        text = f"{maker}, {100 * holder.fraction:.0f} %"
        if self.maker != maker:
            self.maker = maker
            self.view.line(f"  {self.stage}: waiting; {text}")
        self.update(holder.fraction, 1.0, f"{text}  {holder.detail}".strip())
        self.started, self.before = time.monotonic(), None

    def end(self) -> None:
        """Show that another run has made a stage."""
        if self.maker and (not self.status.detail or self.status.detail.startswith(self.maker)):
            self.status.detail = self.maker

    def so_far(self) -> tuple[float, str]:
        """How much of the stage is done, from 0 to 1, and what it does now; for runs that wait for it."""
        return (self.status.done / self.status.total if self.status.total else 0.0), self.status.detail

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Show how far the stage is; `done` and `total` are in one unit, such as clips or epochs."""
        self.status.detail = detail
        self.status.done, self.status.total = done, total
        self.before = done if self.before is None else self.before
        now = time.monotonic()
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=total, detail=detail)
        elif now - self.last >= PLAIN_INTERVAL and done < total:
            self.last = now
            new = done - self.before
            left = (now - self.started) / new * (total - done) if new > 0 else None
            remaining = f", about {duration(left)} left" if left is not None else ""
            self.view.line(f"  {self.stage}: {100 * done / total:.0f} %{remaining}  {detail}")


class View:
    """The terminal side of one run. Its `status` is what watchers read."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.status: Status | None = None

    def line(self, text: str) -> None:
        """Show a line, and log it."""
        log.info(text.strip())
        self.console.print(text, highlight=False, markup=False)

    def reused(self, stage: str, detail: str, folders: Sequence[Path] = ()) -> None:
        """Show that a stage, or a part of it, was finished before."""
        self.line(f"= {stage:<10} reused  {detail}")
        status = self.of(stage)
        status.state, status.detail, status.folders = "reused", detail, list(dict.fromkeys((*status.folders, *folders)))

    def of(self, stage: str) -> StageStatus:
        """The status of the stage of that name."""
        return self.status.of(stage) if self.status else StageStatus(stage)

    @contextmanager
    def stage(self, stage: str) -> Iterator[Bar]:
        """Show a stage's progress during the block, and one line at its end."""
        log.info("%s started", stage)
        started = time.monotonic()
        with self.of(stage).running() as status, self.shown(stage, status) as bar:
            yield bar
        if bar.is_reused:
            self.reused(stage, status.detail)
        else:
            self.line(f"+ {stage:<10} {duration(time.monotonic() - started):>6}  {status.detail}")

    @contextmanager
    def shown(self, stage: str, status: StageStatus) -> Iterator[Bar]:
        """The stage's progress bar: live in a terminal, lines with a percentage elsewhere."""
        if self.console.is_terminal:
            is_narrow = self.console.width < NARROW
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=10 if is_narrow else 24),
                TaskProgressColumn(),
                *([] if is_narrow else [TimeElapsedColumn()]),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            with LiveBar(*columns, console=self.console, transient=True) as progress:
                yield (bar := Bar(self, stage, progress, status))
        else:
            self.console.print(f"> {stage}", highlight=False, markup=False)
            yield (bar := Bar(self, stage, None, status))
        bar.end()


def duration(seconds: float) -> str:
    """Such as 40s, 3m05s or 2h14m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
