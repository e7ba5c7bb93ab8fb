"""Command line: parse first, import late, so that --help answers at once."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli_jobs import JOBS

if TYPE_CHECKING:
    from orchestrator.artifacts import Store
    from orchestrator.config import Experiment
    from orchestrator.view import View

SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as seed=1.")
STORAGE = click.option(
    "--storage", default="runs", show_default=True, help="For runs and artifacts: a folder, or s3://bucket/prefix."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="stillhouse")
def cli() -> None:
    """Acoustic-scene classifiers that fit in 128 KB: features, teachers, search, distillation, TFLite."""


@cli.command()
@click.argument("experiment")
@SET
@STORAGE
def run(experiment: str, overrides: tuple[str, ...], storage: str) -> None:
    """Run EXPERIMENT, a preset or a YAML file, from recordings to a TFLite file and a report.

    What is finished is not done again: after an interruption, the same command goes on where it stopped.
    The last line is the run's folder.
    """
    from orchestrator.loading import load, load_systems

    systems = load_systems(experiment, overrides)
    if systems is None:
        start(load(experiment, overrides), storage)
        return
    store, view = terminal(storage)
    from orchestrator.systems import run_systems

    tell(store, run_systems(Path(experiment).stem, systems, store, view))


@cli.command()
@click.argument("run")
@click.option("--total", is_flag=True, help="On the test split too: nothing is left to measure on.")
def refit(run: str, total: bool) -> None:
    """Train RUN's choices once more, on its training and validation clips together.

    Recipe and averaged epochs are RUN's, since no validation is left to choose by.
    """
    store, folder = finished_run(run)
    from orchestrator.refit import refit_of

    start(refit_of(folder, total), store.uri)


@cli.command()
@click.argument("run")
def report(run: str) -> None:
    """Write RUN's report and model card again from its results."""
    store, folder = finished_run(run)
    from orchestrator.report.build import write_model_card, write_report

    write_model_card(folder)
    page = write_report(folder)
    store.push(folder)
    click.echo(page)


@cli.command()
@click.argument("run")
@click.option("--trial", help="A trial other than the best, by name.")
def reproduce(run: str, trial: str | None) -> None:
    """Repeat RUN's best trial here, without a cluster, and compare number by number.

    RUN may be in s3://. Exits with 1 where a number differs.
    """
    store, folder = finished_run(run)
    from orchestrator.reproduce import reproduce as repeat

    sys.exit(0 if repeat(store, folder, trial, click.echo) else 1)


@cli.command()
@click.argument("first")
@click.argument("second")
def compare(first: str, second: str) -> None:
    """Show what differs between two runs: settings, recordings, versions, results. Exits with 1 where anything does."""
    folders = [finished_run(run)[1] for run in (first, second)]
    from rich.console import Console

    from orchestrator.compare import compare as compare_runs

    sys.exit(1 if compare_runs(folders[0], folders[1], Console(width=None if sys.stdout.isatty() else 160)) else 0)


@cli.command()
@click.argument("run")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8266, show_default=True, help="Port to listen on.")
def watch(run: str, host: str, port: int) -> None:
    """Show RUN, live or finished, as a web page."""
    from orchestrator.runs import STATUS, locate
    from orchestrator.watch.server import serve

    serve(*locate(run, STATUS), host, port, say=click.echo)


@cli.command()
@STORAGE
@click.option("--yes", is_flag=True, help="Remove without asking.")
def clean(storage: str, yes: bool) -> None:
    """Remove from a storage what no finished run needs: work in progress, old results, temporary files."""
    from orchestrator.artifacts import Store
    from orchestrator.clean import clean as clean_storage

    clean_storage(Store(storage), lambda question: yes or click.confirm(question), click.echo)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recorder", default="", help="What recorded them, where the training's recordings were corrected.")
def predict(model: Path, recordings: tuple[Path, ...], recorder: str) -> None:
    """Say what a device with MODEL (a .tflite file of a run) would say of RECORDINGS."""
    from orchestrator.predict import predict as predict_files

    sys.exit(predict_files(model, recordings, recorder, click.echo))


@cli.group()
def corpus() -> None:
    """Make a generated corpus, or check one."""


@corpus.command("make")
@click.argument("experiment", default="demo")
@SET
def make(experiment: str, overrides: tuple[str, ...]) -> None:
    """Generate EXPERIMENT's corpus (default: demo), in the layout of TAU Urban Acoustic Scenes 2020 Mobile."""
    from features.generated import make_corpus
    from orchestrator.errors import UserError
    from orchestrator.loading import load

    config = load(experiment, overrides)
    if config.corpus.generate is None:
        raise UserError(f"experiment '{experiment}' has no corpus.generate")
    try:
        count = make_corpus(config.corpus.root, config.corpus.generate, config.seed)
    except FileExistsError as error:
        raise UserError(str(error)) from None
    click.echo(f"{count} recordings in {config.corpus.root}")


@corpus.command("check")
@click.argument("experiment")
@SET
@click.option("--decode", is_flag=True, help="Decode every file too.")
def check(experiment: str, overrides: tuple[str, ...], decode: bool) -> None:
    """Check the corpus of EXPERIMENT: layout, labels, leaks, and how many clips each split has."""
    from orchestrator.loading import load

    config = load(experiment, overrides)
    from orchestrator.check import check_corpus

    sys.exit(check_corpus(config, decode, click.echo))


@cli.group()
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

    from orchestrator.submission.package import make
    from orchestrator.view import View

    click.echo(make(folder, evaluation, facts, output, View(Console(soft_wrap=True))))


@submission.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@EVALUATION
def check_submission(folder: Path, evaluation: Path) -> None:
    """Say what is wrong with the package in FOLDER, a line each."""
    from orchestrator.submission.package import check

    sys.exit(check(folder, evaluation, click.echo))


@cli.group()
def config() -> None:
    """Look at settings."""


@config.command("show")
@click.argument("experiment")
@SET
def show(experiment: str, overrides: tuple[str, ...]) -> None:
    """Print EXPERIMENT with every default written out."""
    from orchestrator.config import to_yaml
    from orchestrator.loading import load

    click.echo(to_yaml(load(experiment, overrides)), nl=False)


for job_command in JOBS:
    cli.add_command(job_command)


def terminal(storage: str) -> "tuple[Store, View]":
    from rich.console import Console

    from orchestrator.artifacts import Store
    from orchestrator.view import View

    return Store(storage), View(Console(soft_wrap=True))


def start(config: "Experiment", storage: str) -> None:
    """Run an experiment to its end."""
    store, view = terminal(storage)
    from orchestrator.run import run as run_stages

    tell(store, run_stages(config, store, view))


def tell(store: "Store", folder: Path) -> None:
    click.echo(f"report: {store.address(folder / 'report' / 'index.html')}")
    click.echo(store.address(folder))


def finished_run(address: str) -> "tuple[Store, Path]":
    from orchestrator.runs import RESULTS, locate

    return locate(address, RESULTS)


def main() -> None:
    """Entry point: user errors become one line and exit code 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill stops as gracefully as Ctrl-C
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stillhouse: interrupted; what is finished is kept, the same command goes on from there", err=True)
        sys.exit(130)
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        click.echo(f"stillhouse: {message}", err=True)
        sys.exit(2)


def user_message(error: BaseException) -> str | None:
    """The line to show where the user can do something about it; None for a bug."""
    from features.corpus import CorpusError
    from orchestrator.errors import UserError
    from orchestrator.remote import first_line

    cause = getattr(error, "cause", None) or error  # Ray wraps what a task raised
    if type(cause).__module__ == "ray.exceptions":
        reason = first_line(cause)
        return f"the Ray cluster failed ({reason}); what is finished is kept, the same command goes on from there"
    if isinstance(cause, UserError | CorpusError):
        return " ".join(str(cause).split())
    if isinstance(cause, OSError) and cause.filename is not None:
        return f"{cause.filename}: {cause.strerror}"
    if isinstance(cause, OSError) and cause.errno is not None:
        return str(cause.strerror)
    return None
