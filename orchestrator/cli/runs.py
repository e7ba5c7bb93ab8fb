"""Commands on the folders of runs, and what starts one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.config.experiment import Experiment
    from orchestrator.monitor.view import View
    from orchestrator.storage.store import Store

STORAGE = click.option(
    "--storage", default="runs", show_default=True, help="For runs and artifacts: a folder, or s3://bucket/prefix."
)


def view_here() -> "View":
    """The progress view on this terminal."""
    from rich.console import Console

    from orchestrator.monitor.view import View

    return View(Console(soft_wrap=True))


def terminal(storage: str) -> "tuple[Store, View]":
    """The storage, and the progress view on this terminal."""
    from orchestrator.storage.store import Store

    return Store(storage), view_here()


def start(config: "Experiment", storage: str, until: str | None = None) -> None:
    """Run an experiment to its end, or to the end of a stage."""
    store, view = terminal(storage)
    from orchestrator.run import run as run_stages

    print_addresses(store, run_stages(config, store, view, until))


def print_addresses(store: "Store", folder: Path) -> None:
    """The report's, where there is one, and the folder's."""
    from orchestrator.storage.runs import REPORT

    if (folder / REPORT).exists():
        click.echo(f"report: {store.address(folder / REPORT)}")
    click.echo(store.address(folder))


def finished_run(address: str) -> "tuple[Store, Path]":
    from orchestrator.storage.runs import RESULTS, locate

    return locate(address, RESULTS)


@click.command("runs")
@STORAGE
def list_runs(storage: str) -> None:
    """List the runs of a storage, the newest first: state, accuracy with its interval, size, how long they took."""
    from orchestrator.cli.tables import echo_table
    from orchestrator.errors import UserError
    from orchestrator.finished.listing import COLUMNS, runs_of
    from orchestrator.storage.store import Store

    store = Store(storage)
    rows = runs_of(store)
    if not rows:
        raise UserError(f"{storage} holds no run; `stillhouse run EXPERIMENT --storage {storage}` makes one")
    echo_table([COLUMNS, *rows])


@click.command()
@click.argument("run")
@click.option("--total", is_flag=True, help="On the test split too: nothing is left to measure on.")
def refit(run: str, total: bool) -> None:
    """Train RUN's choices once more, on its training and validation clips together.

    Recipe and averaged epochs are RUN's, since no validation is left to choose by.
    """
    store, folder = finished_run(run)
    from orchestrator.finished.refit import refit_of

    start(refit_of(folder, total), store.uri)


@click.command()
@click.argument("run")
def report(run: str) -> None:
    """Write RUN's report and model card again from its results."""
    store, folder = finished_run(run)
    from orchestrator.report.build import write_model_card, write_report

    write_model_card(folder)
    page = write_report(folder)
    store.push(folder)
    click.echo(page)


@click.command()
@click.argument("run")
@click.option("--trial", help="A trial other than the best, by name.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Where the run's recordings are on this machine.")
def reproduce(run: str, trial: str | None, corpus: "Path | None") -> None:
    """Repeat RUN's best trial here, without a cluster, and compare number by number.

    RUN may be in s3://. Exits with 1 where a number differs.
    """
    store, folder = finished_run(run)
    from orchestrator.finished.reproduce import reproduce as repeat

    sys.exit(0 if repeat(store, folder, trial, click.echo, corpus) else 1)


@click.command()
@click.argument("first")
@click.argument("second")
def compare(first: str, second: str) -> None:
    """Show what differs between two runs: settings, recordings, versions, results. Exits with 1 where anything does."""
    folders = [finished_run(run)[1] for run in (first, second)]
    from rich.console import Console

    from orchestrator.finished.compare import compare as compare_runs

    sys.exit(1 if compare_runs(folders[0], folders[1], Console(width=None if sys.stdout.isatty() else 160)) else 0)


@click.command()
@click.argument("run")
def mlflow(run: str) -> None:
    """Copy RUN to the MLflow server that MLFLOW_TRACKING_URI names: results, settings, files, a child each training."""
    _, folder = finished_run(run)
    from orchestrator.finished.mlflow import log_to_mlflow

    click.echo(log_to_mlflow(folder))


@click.command()
@click.argument("run")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8266, show_default=True, help="Port to listen on.")
def watch(run: str, host: str, port: int) -> None:
    """Show RUN, live or finished, as a web page."""
    from orchestrator.storage.runs import STATUS, locate
    from orchestrator.watch.server import serve

    serve(*locate(run, STATUS), host, port, echo=click.echo)


@click.command()
@STORAGE
@click.option("--unfinished", is_flag=True, help="And what runs have done that were not finished: they begin anew.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(storage: str, unfinished: bool, yes: bool) -> None:
    """Remove from a storage what no finished, running or interrupted run needs: old results, temporary files."""
    from orchestrator.storage.clean import clean as clean_storage
    from orchestrator.storage.store import Store

    clean_storage(Store(storage), lambda question: yes or click.confirm(question), click.echo, unfinished)


@click.group()
def submission() -> None:
    """Make or check a submission to DCASE 2021 task 1a."""


EVALUATION = click.option(
    "--evaluation", type=click.Path(path_type=Path), required=True, help="Folder of the evaluation set."
)


@submission.command("make")
@click.argument("run")
@EVALUATION
@click.option("--facts", type=click.Path(path_type=Path), required=True, help="YAML: who submits, see docs.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("submissions"), show_default=True, help="Where to."
)
def make_submission(run: str, evaluation: Path, facts: Path, output: Path) -> None:
    """Write the output and meta files of RUN's exported student, checked against the challenge's rules."""
    _, folder = finished_run(run)
    from rich.console import Console

    from orchestrator.monitor.view import View
    from orchestrator.submission.package import make

    click.echo(make(folder, evaluation, facts, output, View(Console(soft_wrap=True))))


@submission.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@EVALUATION
def check_submission(folder: Path, evaluation: Path) -> None:
    """Check the package in FOLDER; prints a line for each violation of the challenge's rules."""
    from orchestrator.submission.package import check

    sys.exit(check(folder, evaluation, click.echo))


RUNS = (list_runs, refit, report, reproduce, compare, watch, mlflow, clean, submission)
