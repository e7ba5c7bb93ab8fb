"""Runs as Ray Jobs: what is packaged, and the requests to a cluster's job server."""

import asyncio
import os
import re
import secrets
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

from orchestrator.config.experiment import Experiment, to_yaml
from orchestrator.config.keys import folder_name
from orchestrator.config.loading import load, load_systems
from orchestrator.config.plain_yaml import dump_yaml
from orchestrator.errors import UserError
from orchestrator.storage.address import presentable, require_no_credentials

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).parents[2]
LIMIT = 100 * 2**20  # bytes that a head's dashboard takes in one request
GRACE = 120  # seconds that a stopped job has to save what it is at; Ray's own 3 are too few
STOPPING = GRACE + 60.0  # seconds for a head to report that a stopped job has ended
PATIENCE = 10.0  # seconds for a head to answer at all
REQUEST = "request"  # the metadata by which a job is known from another of the same name
STARTING = 30.0  # seconds for one that answers to be able to start jobs


@dataclass(frozen=True)
class Job:
    """What is submitted, beside its folder."""

    entrypoint: str
    metadata: dict[str, str]


def prepare(experiment: str, overrides: Sequence[str], storage: str, folder: Path, root: Path = ROOT) -> Job:
    """Put into `folder` all that a job needs, and nothing else: the source, and the experiment with every default.

    Raises UserError.
    """
    require_shared(storage)
    systems = load_systems(experiment, overrides)
    configs = [load(experiment, overrides)] if systems is None else list(systems.values())
    for config in configs:
        require_corpus(config)
    copy_source(root, folder)
    name = Path(experiment).stem
    file = folder / f"{name}.yaml"
    if systems is None:
        run = folder_name(configs[0].name, configs[0])
        file.write_text(to_yaml(configs[0]))
    else:
        run = folder_name(name, configs)
        files = {label: f"system-{number}.yaml" for number, label in enumerate(systems, 1)}
        for label, config in systems.items():
            (folder / files[label]).write_text(to_yaml(config))
        file.write_text(dump_yaml({"systems": files}))
    entrypoint = shlex.join(["python", "-m", "orchestrator", "run", file.name, "--storage", storage])
    return Job(entrypoint, {"preset": name, "commit": commit(root), "storage": storage, "run": run})


def require_shared(storage: str) -> None:
    """Raises UserError where a job could not write to `storage`, or where the address holds credentials."""
    if "://" not in storage and not Path(storage).is_absolute():
        raise UserError(
            f"--storage {storage} would lie in the job's own folder, which Ray removes: give an absolute path that "
            f"every node shares, or s3://bucket/prefix"
        )
    require_no_credentials(storage)
    if "://" in storage and not storage.startswith("s3://"):
        raise UserError(f"storage {storage!r} cannot be opened: give an absolute path or s3://bucket/prefix")


def require_corpus(config: Experiment) -> None:
    """A generated corpus may lie in the job's folder: it is made there again, and is the same."""
    root = config.corpus.root
    if config.corpus.generate is None and not root.is_absolute():
        raise UserError(
            f"corpus.root {root} is relative, and would be looked for in the job's own folder: add "
            f"--set corpus.root=/path/on/every/node"
        )


def copy_source(root: Path, folder: Path) -> None:
    """What pyproject.toml lists as packages and their data, and pyproject.toml."""
    project = root / "pyproject.toml"
    if not project.is_file():
        raise UserError(f"{root} has no pyproject.toml: submit from a clone of the project (make install)")
    data = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]
    found = {
        path
        for folder in (file.parent for top in package_patterns(root) for file in root.glob(f"{top}/**/__init__.py"))
        for pattern in ("*.py", *data.get(".".join(folder.relative_to(root).parts), ()))
        for path in folder.glob(pattern)
        if path.is_file() and not path.name.startswith(".")
    }
    size = sum(path.stat().st_size for path in found)
    if size > LIMIT:
        largest = max(found, key=lambda path: path.stat().st_size).relative_to(root)
        raise UserError(f"the source has {size / 2**20:.0f} MiB, a head takes {LIMIT / 2**20:.0f}; largest: {largest}")
    for path in (project, *sorted(found)):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def package_patterns(root: Path) -> list[str]:
    """Such as "features*": what pyproject.toml includes as packages."""
    return tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]


def commit(root: Path) -> str:
    """The commit that is packaged, "+changes" where it is not just that."""
    try:
        changes = git(root, "status", "--porcelain", "--", "pyproject.toml", *package_patterns(root))
        return git(root, "rev-parse", "--short", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(root: Path, *words: str) -> str:
    """What git prints. Raises OSError and CalledProcessError."""
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def new_id(preset: str) -> str:
    """Such as demo-20261125-031502, in UTC."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', preset)}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def require_id(job: str) -> None:
    """Raise UserError for an id that Ray's job server would refuse, or a shell would read otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", job):
        raise UserError(f"--id '{job}': use letters, digits and . _ - alone")


@contextmanager
def head(address: str) -> "Iterator[JobSubmissionClient]":
    """The job server of the cluster whose dashboard is at `address`. What fails in the block is a UserError too."""
    wants_token = require_head(address)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # else Ray takes RAY_ADDRESS, whatever address it is given
    if wants_token:  # Ray by itself would not look for one
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        yield JobSubmissionClient(address)
    except AuthenticationError as error:
        problem = "does not accept this token" if "Forbidden" in str(error) else "wants a token, and there is none"
        raise UserError(
            f"the head at {address} {problem}: set RAY_AUTH_TOKEN to the cluster's, or put it into ~/.ray/auth_token"
        ) from None
    except BrokenPipeError:  # of our own output
        raise
    except (ConnectionError, requests.RequestException, aiohttp.ClientError):
        raise UserError(f"the head at {address} does not answer any longer; its jobs may still run") from None
    except RuntimeError as error:
        raise UserError(f"the head at {address} refuses: {reason(error)}") from None


def require_head(address: str) -> bool:
    """Whether the head wants a token. Raises UserError where there is none."""
    hint = "give its dashboard, such as --address http://HOST:8265"
    if presentable(address) != address:
        raise UserError("--address must not hold credentials, which logs would show: set RAY_AUTH_TOKEN to a token")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address {presentable(address)} is not the address of a head's dashboard: {hint}")
    try:
        with urlopen(f"{address.rstrip('/')}/api/version", timeout=PATIENCE) as answer:
            is_head = b"ray_version" in answer.read()
    except HTTPError as error:
        if error.code in (401, 403):
            return True
        is_head = False
    except (HTTPException, ValueError):
        is_head = False
    except OSError as error:
        raise UserError(f"no head answers at {address} ({reason(getattr(error, 'reason', error))}): {hint}") from None
    if not is_head:
        raise UserError(f"what answers at {address} is no head of a Ray cluster: {hint}")
    return False


def reason(error: BaseException) -> str:
    """The last line of an error's text that says anything."""
    return last_line(str(error)) or type(error).__name__


def last_line(text: str) -> str:
    """The last line that is not empty: in a traceback or a log, the reason stands there."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip(" .")), "")


def submit(client: "JobSubmissionClient", job: Job, folder: Path, name: str) -> None:
    """Upload `folder` and start the job in it; again where a busy head drops the connection.

    Raises UserError where the name is taken, or the head does not answer any longer.
    """
    import requests

    metadata = job.metadata | {REQUEST: secrets.token_hex(8)}

    environment = {"working_dir": str(folder), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE)}}
    until = time.monotonic() + STARTING
    is_uncertain = False  # whether an earlier request may have started the job, though its answer was lost
    while True:
        try:
            client.submit_job(entrypoint=job.entrypoint, submission_id=name, runtime_env=environment, metadata=metadata)
            return
        except (ConnectionError, requests.RequestException):
            if time.monotonic() > until:
                raise UserError(
                    f"the head at {client.get_address()} does not answer any longer, and may have started {name}: "
                    f"`stillhouse status {name} --address {client.get_address()}` shows it once it answers"
                ) from None
            is_uncertain = True
        except RuntimeError as error:
            if "already exists" in str(error):
                if is_uncertain and info(client, name).metadata == metadata:
                    return
                raise UserError(f"a job '{name}' was submitted before: leave --id out, or choose another") from None
            if "No available agent" not in str(error):
                raise
            if time.monotonic() > until:
                raise UserError(
                    f"no node of {client.get_address()} can start jobs: where several clusters share a machine, start "
                    f"each with a --dashboard-agent-listen-port of its own"
                ) from None
        time.sleep(1.0)


def info(client: "JobSubmissionClient", name: str) -> "JobDetails":
    """Raises UserError where there is no such job."""
    try:
        return client.get_job_info(name)
    except RuntimeError as error:
        if "does not exist" in str(error):
            raise UserError(f"no job '{name}' at {client.get_address()}; `stillhouse list` shows all") from None
        raise


def follow(client: "JobSubmissionClient", name: str, write: Callable[[str], None]) -> "JobDetails":
    """Write the log as it grows until the job has ended; how it ended."""
    info(client, name)

    async def tail() -> None:
        async for text in client.tail_job_logs(name):
            write(text)

    with suppress(RuntimeError):  # of a broken connection: the job itself still runs
        asyncio.run(tail())
    job = info(client, name)
    if not job.status.is_terminal():
        raise ConnectionError
    return job


def stop(client: "JobSubmissionClient", name: str) -> "JobDetails":
    """Stop a job, which saves first, and wait until it has ended; how it ended. Raises UserError where it does not."""
    job = info(client, name)
    if not job.status.is_terminal():
        client.stop_job(name)
    until = time.monotonic() + STOPPING
    while not job.status.is_terminal():
        if time.monotonic() > until:
            raise UserError(
                f"{name} has not ended within {STOPPING:g} seconds of its stop: it is still {job.status.value}; "
                f"`stillhouse status {name} --address {client.get_address()}` shows when it has ended"
            )
        time.sleep(0.5)
        job = info(client, name)
    return job


def submitted(client: "JobSubmissionClient") -> "list[JobDetails]":
    """All jobs that were submitted as such, the newest first."""
    jobs = [job for job in client.list_jobs() if job.submission_id]
    return sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)
