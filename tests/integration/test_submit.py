"""Runs as jobs of a real head: followed, left, stopped, resumed, refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from orchestrator.cluster.jobs import REQUEST
from tests.ports import free_ports
from tests.waiting import wait_for

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
AT_ONCE = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}  # else a head takes 30 s to end
EPOCHS = 60  # of a teacher that a stop has to meet, on a machine however fast
EXPERIMENT = {
    "name": "tiny",
    "corpus": {
        "layout": "tau",
        "root": "corpus",
        "validation_fraction": 0.3,
        "generate": {"cities": 1, "train_locations": 2, "train_segments": 1, "test_segments": 1, "seconds": 1.0},
    },
    "features": {"clip_seconds": 1.0, "n_mels": 32},
    "teachers": {
        "one": {
            "model": {"width": 2},
            "recipe": {"cycle_ends": [1, EPOCHS], "crop_frames": 32, "batch_size": 8},
            "ensemble": [1, EPOCHS],
        }
    },
    "student": {"recipe": {"cycle_ends": [1, 2], "crop_frames": 32, "batch_size": 8}, "average": [1, 2]},
    "search": None,
    "plain": False,
}


@dataclass(frozen=True)
class Head:
    """A head, and the environment of somebody who has its token."""

    address: str
    environment: dict[str, str]
    agent: int  # port

    def start(self, *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "orchestrator", *words, "--address", self.address]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment or self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
        process = self.start(*words, environment=environment)
        output, errors = process.communicate(timeout=900)
        assert "Traceback" not in errors and TOKEN not in output + errors
        return process.returncode, output, errors

    def details(self, job: str) -> dict:
        """What the job server tells of a job, without Ray's client."""
        request = Request(f"{self.address}/api/jobs/{job}", headers={"Authorization": f"Bearer {TOKEN}"})
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)


def answers(address: str) -> bool:
    try:
        with urlopen(Request(f"{address}/api/version", headers={"Authorization": f"Bearer {TOKEN}"}), timeout=5):
            return True
    except OSError:  # not yet, or not in time
        return False


def environment_of(home: Path) -> dict[str, str]:
    """Of a person whose home is there, without what this process has of Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "SECRET_OF_THE_SUBMITTER": "hunter2",
    }


@contextmanager
def started(home: Path, agent: int | None = None) -> Iterator[Head]:
    """A cluster of one node that wants the token in `home`, in a process group of its own."""
    port, dashboard, free, client, metrics = free_ports(5)
    agent = agent or free
    environment = environment_of(home)
    temporary = tempfile.mkdtemp(prefix="ray-")  # pytest's folders are too deep for a socket's path
    words = ["--head", "--block", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=2"]
    words += [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    words += [f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}"]
    words += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=200000000"]
    with (home / "head.log").open("w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", *words, f"--temp-dir={temporary}"],
            env={name: value for name, value in environment.items() if not name.startswith("SECRET")} | AT_ONCE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        wait_for(lambda: process.poll() is not None or answers(address))
        assert process.poll() is None, (home / "head.log").read_text()
        yield Head(address, environment, agent)
    finally:
        process.terminate()
        process.wait(timeout=180)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(TOKEN)
    with started(home) as head:
        yield head


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def words(storage, tmp_path_factory) -> list[str]:
    """Of the submit that is left, stopped and given again."""
    file = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    file.write_text(yaml.safe_dump(EXPERIMENT))
    return ["submit", str(file), "--storage", str(storage)]


@dataclass(frozen=True)
class Left:
    """A job that goes on alone, and what was said of it then."""

    job: str
    status: str
    details: dict


@pytest.fixture(scope="module")
def left(head, words, storage) -> Left:
    """A job in the middle of its teacher, whose submitter has pressed Ctrl-C."""
    process = head.start(*words)
    try:
        wait_for(lambda: process.poll() is not None or list(storage.glob("work/teachers/*/trials/*/rows.jsonl")))
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
    job = output.splitlines()[0]
    assert process.returncode == 130
    assert errors == (
        f"\n{job} goes on; `stillhouse logs {job} --address {head.address} --follow` shows it again, "
        f"`stillhouse stop {job} --address {head.address}` ends it\n"
    )
    code, status, _ = head("status", job)
    assert code == 0
    return Left(job, status, head.details(job))


@pytest.fixture(scope="module")
def stopped(head, left) -> str:
    code, output, _ = head("stop", left.job)
    assert (code, output) == (
        0,
        f"{left.job} is stopped; the same submit, with the same --storage, goes on from there\n",
    )
    return left.job


@pytest.fixture(scope="module")
def resumed(head, words, stopped) -> str:
    """What the same submit writes to its end."""
    code, output, errors = head(*words)
    assert (code, errors) == (0, ""), output
    assert output.splitlines()[0] != stopped
    return output


def test_ctrl_c_leaves_the_job_running(left):
    assert re.fullmatch(r"tiny-20\d{6}-\d{6}", left.job)
    started = r"started 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.match(rf"{left.job}: RUNNING, {started}, preset tiny, commit ", left.status)


def test_nothing_of_the_submitter_travels_but_what_is_meant_to(left, storage):
    details = left.details
    assert details["entrypoint"] == f"python -m orchestrator run tiny.yaml --storage {storage}"
    assert list(details["runtime_env"]["env_vars"]) == ["RAY_JOB_STOP_WAIT_TIME_S"]
    assert set(details["metadata"]) == {"preset", "commit", "storage", "run", REQUEST}
    assert (storage / details["metadata"]["run"] / "config.yaml").is_file()
    assert "hunter2" not in json.dumps(details) and TOKEN not in json.dumps(details)


def test_a_stop_is_graceful(head, stopped, storage):
    _, log, _ = head("logs", stopped)
    assert log.endswith("interrupted; what is finished is kept, the same command goes on from there\n")
    assert not re.search("error|raylet|Traceback|killed", log, re.IGNORECASE), log  # of Ray's
    status = json.loads((storage / head.details(stopped)["metadata"]["run"] / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert head("stop", stopped)[1].startswith(f"{stopped} is stopped")


def test_the_same_submit_goes_on_and_the_log_ends_with_the_run(head, resumed, stopped):
    job, run = resumed.splitlines()[0], Path(resumed.splitlines()[-1])
    assert "on the test split" in resumed
    assert run.name == head.details(job)["metadata"]["run"] == head.details(stopped)["metadata"]["run"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["trial"] == "teacher-one"] == list(range(1, EPOCHS + 1))
    assert head("logs", job)[1] == resumed.split("\n", 1)[1]
    assert head("status", job)[1].rstrip().endswith("Job finished successfully.")


def test_list_has_the_newest_first(head, resumed, stopped):
    header, first, *others = head("list")[1].splitlines()
    assert header.split() == ["ID", "STATE", "STARTED", "PRESET", "COMMIT", "RUN", "STORAGE", "PROGRESS"]
    assert first.split()[:2] == [resumed.splitlines()[0], "SUCCEEDED"]
    assert re.search(r" finished(: accuracy .*)?$", first)
    assert [stopped, "STOPPED"] in [line.split()[:2] for line in others]


def test_a_job_that_fails_hands_its_exit_code_on(head, storage, resumed):
    assert resumed
    settings = ["--set", "corpus.root=/nowhere"]
    code, output, errors = head("submit", "dcase2021", *settings, "--storage", str(storage), "--id", "wrong")
    assert code == 2
    assert output.splitlines()[0] == "wrong"
    assert output.splitlines()[-1].startswith("stillhouse: corpus root /nowhere is not there; set corpus.root to your ")
    assert errors == "stillhouse: wrong FAILED\n"
    assert head("logs", "wrong", "--follow") == (2, output.split("\n", 1)[1], errors)
    assert "stillhouse: corpus root /nowhere is not there" in head("status", "wrong")[1]
    code, _, errors = head("submit", "demo", "--storage", str(storage), "--id", "wrong")
    assert (code, errors) == (2, "stillhouse: a job 'wrong' was submitted before: leave --id out, or choose another\n")


@pytest.mark.parametrize("command", ["status", "logs", "stop"])
def test_a_job_that_is_not_there(head, command):
    code, output, errors = head(command, "none")
    assert (code, output) == (2, "")
    assert errors == f"stillhouse: no job 'none' at {head.address}; `stillhouse list` shows all\n"


def test_a_token_that_is_missing_or_another_is_one_line(head, tmp_path):
    without = environment_of(tmp_path)
    code, _, errors = head("list", environment=without)
    assert code == 2
    assert errors == (
        f"stillhouse: the head at {head.address} wants a token, and there is none: set RAY_AUTH_TOKEN to the "
        f"cluster's, or put it into ~/.ray/auth_token\n"
    )
    code, _, errors = head("list", environment=without | {"RAY_AUTH_TOKEN": TOKEN[::-1]})
    assert code == 2 and "does not accept this token" in errors and errors.count("\n") == 1
    assert head("list", environment=without | {"RAY_AUTH_TOKEN": TOKEN})[0] == 0


def test_an_address_that_is_given_counts_more_than_the_environment(head):
    assert head("list", environment=head.environment | {"RAY_ADDRESS": "http://127.0.0.1:1"})[0] == 0


def test_a_head_that_is_not_there(head):
    code, _, errors = replace(head, address="http://127.0.0.1:1")("submit", "demo", "--storage", "/shared/runs")
    assert code == 2
    assert errors == (
        "stillhouse: no head answers at http://127.0.0.1:1 ([Errno 111] Connection refused): give its dashboard, such "
        "as --address http://HOST:8265\n"
    )


def test_a_head_without_an_agent_says_what_takes_its_place(head, tmp_path):
    """Two clusters of one machine, whose agents want the same port."""
    shutil.copytree(Path(head.environment["HOME"]) / ".ray", tmp_path / ".ray")
    with started(tmp_path, head.agent) as second:
        code, _, errors = second("submit", "demo", "--storage", "/shared/runs", "--set", "corpus.root=/shared/corpus")
    assert code == 2
    assert errors == (
        f"stillhouse: no node of {second.address} can start jobs: where several clusters share a machine, start "
        f"each with a --dashboard-agent-listen-port of its own\n"
    ), (tmp_path / "head.log").read_text()


def test_submitting_by_hand_works_too(head):
    """As docs/ says; .rayignore keeps back what is not the source."""
    ray = str(Path(sys.executable).with_name("ray"))
    script = "ls -A && python -m orchestrator config show demo"
    words = [ray, "job", "submit", "--address", head.address, "--working-dir", str(ROOT), "--", "sh", "-c", script]
    environment = head.environment | {"RAY_AUTH_MODE": "token"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert {"features", "models", "orchestrator", "pyproject.toml"} <= set(lines)
    assert any(line.startswith("name: demo  #") for line in lines)
    assert {".git", ".venv", "runs", "data", "tests", "stillhouse.egg-info"} & set(lines) == set()
