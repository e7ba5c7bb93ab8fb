"""Command line: parse first, import late, so that --help answers at once."""

import os
import signal
import sys
from pathlib import Path

import click

from orchestrator.arithmetic import use_common
from orchestrator.cli.jobs import JOBS
from orchestrator.cli.runs import RUNS, STORAGE, print_addresses, start, terminal, view_here

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as seed=1.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="stillhouse")
def cli() -> None:
    """Acoustic-scene classifiers that fit in 128 KB: features, teachers, search, distillation, TFLite."""


@cli.command()
@click.argument("experiment")
@SET
@STORAGE
@click.option("--until", metavar="STAGE", help="End after corpus, features, teachers, labels or search.")
def run(experiment: str, overrides: tuple[str, ...], storage: str, until: str | None) -> None:
    """Run EXPERIMENT, a preset or a YAML file, from recordings to a TFLite file and a report.

    What is finished is not done again: after an interruption, the same command resumes where it stopped.
    The last line is the run's folder.
    """
    from orchestrator.config.loading import load, load_systems
    from orchestrator.errors import UserError

    systems = load_systems(experiment, overrides)
    if systems is None:
        start(load(experiment, overrides), storage, until)
        return
    if until:
        raise UserError(f"--until is for one experiment; {experiment} is a set of them: {', '.join(systems)}")
    store, view = terminal(storage)
    from orchestrator.finished.systems import run_systems

    print_addresses(store, run_systems(Path(experiment).stem, systems, store, view))


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--recorder", default="", help="What recorded them, where the training's recordings were corrected.")
@click.option("--hop", type=float, help="Seconds from one window to the next.  [default: half a window]")
@click.option("--windows", is_flag=True, help="Show every window with the second in which it begins, too.")
@click.option("--format", "form", type=click.Choice(["lines", "csv", "json"]), default="lines", show_default=True)
def predict(
    model: Path, recordings: tuple[Path, ...], recorder: str, hop: float | None, windows: bool, form: str
) -> None:
    """Predict RECORDINGS, files and folders of them, as a device with MODEL (a .tflite file of a run) would.

    A recording longer than the model's clips is predicted in windows of their length; its prediction is their mean.
    """
    from orchestrator.export.predict import predict as predict_files
    from orchestrator.export.writers import WRITERS

    sys.exit(predict_files(model, recordings, recorder, hop, WRITERS[form](click.echo, windows)))


@cli.group()
def corpus() -> None:
    """Make a generated corpus, or check one."""


@corpus.command("make")
@click.argument("experiment", default="demo")
@SET
def make(experiment: str, overrides: tuple[str, ...]) -> None:
    """Generate EXPERIMENT's corpus (default: demo), in the layout of TAU Urban Acoustic Scenes 2020 Mobile."""
    from features.generated import make_corpus
    from orchestrator.config.loading import load
    from orchestrator.errors import UserError

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
    from orchestrator.config.loading import load

    config = load(experiment, overrides)
    from orchestrator.stages.check import check_corpus

    sys.exit(check_corpus(config, decode, view_here()))


@cli.group()
def config() -> None:
    """Look at settings."""


@config.command("show")
@click.argument("experiment")
@SET
def show(experiment: str, overrides: tuple[str, ...]) -> None:
    """Print EXPERIMENT with every default written out, and what each setting does."""
    from orchestrator.config.experiment import to_yaml
    from orchestrator.config.loading import load

    text = to_yaml(load(experiment, overrides))
    from orchestrator.config.explained import commented

    click.echo(commented(text), nl=False)


@config.command("explain")
@click.argument("key", default="")
def explain(key: str) -> None:
    """Show type, default and purpose of the setting KEY, such as student.recipe, and of all below it."""
    from orchestrator.config.explained import explain as explain_setting
    from orchestrator.config.explained import settings

    for one in explain_setting(key) if key else settings():
        click.echo(one.line)


@config.command("schema")
def schema() -> None:
    """Print the JSON schema of an experiment's file, for editors."""
    import json

    from orchestrator.config.json_schema import experiment_schema

    click.echo(json.dumps(experiment_schema(), indent=1))


@config.command("list")
def list_presets() -> None:
    """List the presets, each with what it is."""
    from orchestrator.cli.tables import echo_table
    from orchestrator.config.loading import presets

    echo_table([("PRESET", "WHAT"), *presets().items()])


for command in (*RUNS, *JOBS):
    cli.add_command(command)


def keep_proxies_from_this_machine() -> None:
    """Connect to this machine itself without the environment's proxy, in the processes that start from here, too."""
    names = ("NO_PROXY", "no_proxy")  # some libraries read the one, some the other
    given = [host.strip() for name in names for host in os.environ.get(name, "").split(",") if host.strip()]
    hosts = "*" if "*" in given else ",".join(dict.fromkeys([*given, *THIS_MACHINE]))  # in a list, some ignore the "*"
    os.environ |= dict.fromkeys(names, hosts)


def main() -> None:
    """Entry point: user errors become one line and exit code 2."""
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill stops as gracefully as Ctrl-C
    keep_proxies_from_this_machine()
    use_common()
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
    finally:
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # None: it was not set from Python


def user_message(error: BaseException) -> str | None:
    """The line to show where the user can do something about it; None for a bug."""
    from features.corpus import CorpusError
    from orchestrator.errors import UserError
    from orchestrator.storage.remote import first_line

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
