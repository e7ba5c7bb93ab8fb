"""Commands for runs on a Ray cluster: submit, status, logs, stop, list."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

LOCAL = "http://127.0.0.1:8265"
INTERRUPTED = 130  # exit code, as of a run that is stopped where it was started


def default_address() -> str:
    """As Ray's own client chooses; but the address of a cluster is not that of its dashboard."""
    named = (os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
    return next((address for address in named if address.startswith(("http://", "https://"))), LOCAL)


ADDRESS = click.option(
    "--address",
    default=default_address,
    show_default=f"RAY_ADDRESS if that is a URL, else {LOCAL}",
    help="Of the head's dashboard.",
)
JOB = click.argument("job", metavar="ID")


@contextmanager
def head(address: str) -> "Iterator[JobSubmissionClient]":
    """The job server at `address`, without the upload messages of Ray's client. Raises UserError (cluster/jobs.py)."""
    from orchestrator.cluster.jobs import head as head_at

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # Ray's client reports its uploads
    try:
        with head_at(address) as client:
            yield client
    finally:
        logging.disable(before)


@click.command()
@click.argument("experiment")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as seed=1.")
@click.option("--storage", required=True, help="A folder that every node shares, or s3://bucket/prefix.")
@ADDRESS
@click.option("--id", "name", help="Of the job. Default: the experiment's name and the time.")
@click.option("--no-wait", is_flag=True, help="Return once the job is submitted.")
def submit(
    experiment: str, overrides: tuple[str, ...], storage: str, address: str, name: str | None, no_wait: bool
) -> None:
    """Run EXPERIMENT, a preset or a YAML file, on the cluster at --address; exit with the job's exit code.

    The first line is the job's ID, then its log follows. What goes there is the source and the settings: no data, no
    environment, no tokens. Ctrl-C leaves the job running. The same command again resumes where a run stopped.
    """
    from orchestrator.cluster import jobs

    with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
        job = jobs.prepare(experiment, overrides, storage, Path(folder))
        name = name or jobs.new_id(job.metadata["preset"])
        jobs.require_id(name)
        with head(address) as client:
            jobs.submit(client, job, Path(folder), name)
    click.echo(name)
    if not no_wait:
        follow(name, address)


@click.command()
@JOB
@ADDRESS
def status(job: str, address: str) -> None:
    """Show the state of the job ID in one line: its stage, per cent, best trial so far, and time left."""
    from orchestrator.cluster import jobs

    with head(address) as client:
        found = jobs.info(client, job)
    ended = f"ended {when(found.end_time)}" if found.end_time else ""
    facts = [f"{key} {value}" for key, value in (found.metadata or {}).items() if key != jobs.REQUEST]
    progress = progress_of([found])[job]
    parts = [
        found.status.value,
        f"started {when(found.start_time)}",
        ended,
        *facts,
        "" if progress == "-" else progress,
        jobs.last_line(found.message or ""),
    ]
    click.echo(f"{job}: {', '.join(filter(None, parts))}")


@click.command()
@JOB
@ADDRESS
@click.option("--follow", "following", is_flag=True, help="Until the job ends; exit with its exit code.")
def logs(job: str, address: str, following: bool) -> None:
    """Show what the job ID has written."""
    if following:
        follow(job, address)
    from orchestrator.cluster import jobs

    with head(address) as client:
        jobs.info(client, job)
        click.echo(client.get_job_logs(job), nl=False)


@click.command()
@JOB
@ADDRESS
def stop(job: str, address: str) -> None:
    """Stop the job ID as Ctrl-C stops a run: what is finished is kept."""
    from orchestrator.cluster import jobs

    with head(address) as client:
        ended = jobs.stop(client, job)
    if ended.status == "STOPPED":
        click.echo(f"{job} is stopped; the same submit, with the same --storage, goes on from there")
    else:
        click.echo(f"{job} had ended: {ended.status.value}")


@click.command("list")
@ADDRESS
def list_jobs(address: str) -> None:
    """Show all jobs of the cluster, the newest first, and how far their runs are where their storages are in reach."""
    from orchestrator.cli.tables import echo_table
    from orchestrator.cluster import jobs

    with head(address) as client:
        found = jobs.submitted(client)
    keys = ("preset", "commit", "run", "storage")
    rows = [("ID", "STATE", "STARTED", *(key.upper() for key in keys), "PROGRESS")]
    progress = progress_of(found)
    for job in found:
        facts = [(job.metadata or {}).get(key, "-") for key in keys]
        name = str(job.submission_id)
        rows.append((name, job.status.value, when(job.start_time), *facts, progress[name]))
    echo_table(rows)


def progress_of(jobs: "Sequence[JobDetails]") -> dict[str, str]:
    """How far each job's run is, by the job's ID."""
    from orchestrator.monitor.progress import shown

    known = {str(job.submission_id): job.metadata or {} for job in jobs}
    places = {
        name: (facts["storage"], facts["run"]) for name, facts in known.items() if {"storage", "run"} <= facts.keys()
    }
    return dict.fromkeys(known, "-") | shown(places)


def follow(job: str, address: str) -> NoReturn:
    """Show the log until the job ends, and exit with its exit code."""
    from orchestrator.cluster import jobs

    try:
        with head(address) as client:
            ended = jobs.follow(client, job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        where = f"{job} --address {address}"
        click.echo(
            f"\n{job} goes on; `stillhouse logs {where} --follow` shows it again, `stillhouse stop {where}` ends it",
            err=True,
        )
        sys.exit(INTERRUPTED)
    code = exit_code(ended)
    if code:
        is_logged = ended.driver_exit_code is not None  # the log that was followed ends with the reason
        reason = "" if is_logged else f": {jobs.last_line(ended.message or '')}"
        click.echo(f"stillhouse: {job} {ended.status.value}{reason}", err=True)
    sys.exit(code)


def exit_code(job: "JobDetails") -> int:
    """Of the job's own command, where it came to an end by itself."""
    if job.status == "STOPPED":
        return INTERRUPTED
    if job.driver_exit_code is None:
        return 0 if job.status == "SUCCEEDED" else 1
    return job.driver_exit_code if job.driver_exit_code >= 0 else 128 - job.driver_exit_code  # ended by a signal


def when(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


JOBS = (submit, status, logs, stop, list_jobs)
