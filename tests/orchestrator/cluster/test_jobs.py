"""Jobs before there is a cluster: what is packaged and what never is, names, refusals."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from orchestrator.cli.jobs import LOCAL, default_address, exit_code
from orchestrator.cli.jobs import head as quiet_head
from orchestrator.cluster import jobs
from orchestrator.config.experiment import to_yaml
from orchestrator.config.explained import commented
from orchestrator.config.keys import key_of
from orchestrator.config.loading import load, load_systems
from orchestrator.errors import UserError
from orchestrator.run import run_folder
from orchestrator.storage.store import Store

ROOT = Path(__file__).parents[3]
SECRET = "hunter2"
PLANTED = (
    ".env",
    ".git/config",
    "auth_token",
    "data/corpus/meta.csv",
    "runs/demo-1/config.yaml",
    "orchestrator/.env",
    "orchestrator/__pycache__/jobs.cpython-312.pyc",
    "orchestrator/config/presets/.mine.yaml",
    "orchestrator/report/.env",
    "orchestrator/runs/demo-1/config.yaml",
    "features/recording.wav",
    "models/weights.safetensors",
)


@pytest.fixture
def clone(tmp_path) -> Path:
    """The source, and beside and within it what must not travel."""
    root = tmp_path / "clone"
    for package in ("features", "models", "orchestrator"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in PLANTED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(SECRET)
    return root


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_nothing_but_source_and_settings_is_packaged(clone, folder):
    jobs.prepare("demo", (), "/shared/runs", folder, clone)
    assert {path.name for path in folder.iterdir()} == {
        "features",
        "models",
        "orchestrator",
        "pyproject.toml",
        "demo.yaml",
    }
    assert names_in(folder) & set(PLANTED) == set()
    assert [name for name in names_in(folder) if (folder / name).read_text() == SECRET] == []


def test_every_tracked_file_of_the_packages_is_packaged(folder):
    words = ["git", "ls-files", "features", "models", "orchestrator"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("NOT TESTED that the package is whole: this is no git checkout")
    tracked = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    jobs.prepare("demo", (), "/shared/runs", folder)
    assert {name for name in tracked if (ROOT / name).is_file()} - names_in(folder) == set()


def test_the_package_runs_what_was_submitted(folder):
    job = jobs.prepare("demo", ("seed=7",), "/shared/my runs", folder)
    assert job.entrypoint == "python -m orchestrator run demo.yaml --storage '/shared/my runs'"
    command = [sys.executable, "-m", "orchestrator", "config", "show", "demo.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == commented(to_yaml(load("demo", ("seed=7",))))


def test_metadata_say_what_runs_and_where_its_results_will_be(folder, tmp_path):
    metadata = jobs.prepare("demo", ("seed=7",), "s3://bucket/runs", folder).metadata
    run = run_folder(load("demo", ("seed=7",)), Store(tmp_path)).name
    assert metadata == {"preset": "demo", "commit": jobs.commit(ROOT), "storage": "s3://bucket/runs", "run": run}


def test_a_set_of_experiments_is_packaged_with_all_of_them(folder, monkeypatch):
    settings = ("corpus.root=/data/tau",)
    job = jobs.prepare("dcase2021-all", settings, "/shared/runs", folder)
    expected = load_systems("dcase2021-all", settings)
    assert expected is not None and len(expected) == 4
    assert job.metadata["run"] == f"dcase2021-all-{key_of(list(expected.values()))[:8]}"
    assert job.entrypoint == "python -m orchestrator run dcase2021-all.yaml --storage /shared/runs"
    monkeypatch.chdir(folder)
    assert load_systems("dcase2021-all.yaml") == expected


def test_the_commit_says_where_more_than_it_is_packaged(tmp_path):
    def git(*words: str) -> str:
        about = ["-c", "user.name=Na Zhao", "-c", "user.email=na@example.org"]
        return subprocess.run(
            ["git", *about, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    if shutil.which("git") is None:
        pytest.skip("NOT TESTED which commit is named: git is not there")
    assert jobs.commit(tmp_path) == "unknown"
    git("init", "--quiet")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "audio.py").write_text("")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "--short", "HEAD")
    (tmp_path / "notes.txt").write_text("not packaged")
    assert jobs.commit(tmp_path) == commit
    (tmp_path / "features" / "new.py").write_text("")
    assert jobs.commit(tmp_path) == f"{commit}+changes"


@pytest.mark.parametrize(
    ("experiment", "settings", "storage", "expected"),
    [
        ("demo", (), "runs", "--storage runs would lie in the job's own folder"),
        ("demo", (), "gs://bucket/runs", "give an absolute path or s3://bucket/prefix"),
        ("demo", (), "s3://key:secret@bucket/runs", "must not hold credentials"),
        ("demo", (), "s3://key:sec/ret@bucket/runs", "must not hold credentials"),  # a secret may have slashes
        ("dcase2021", (), "/shared/runs", "add --set corpus.root=/path/on/every/node"),
        ("dcase2021-all", (), "/shared/runs", "add --set corpus.root=/path/on/every/node"),
        ("dmeo", (), "/shared/runs", "did you mean 'demo'?"),
    ],
)
def test_what_cannot_run_there_is_refused(folder, experiment, settings, storage, expected):
    with pytest.raises(UserError) as refusal:
        jobs.prepare(experiment, settings, storage, folder)
    assert expected in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_package_that_is_too_large_names_its_largest_file(clone, folder):
    with (clone / "orchestrator" / "config" / "presets" / "large.yaml").open("w") as file:
        file.truncate(jobs.LIMIT)
    with pytest.raises(UserError, match="takes 100; largest: orchestrator/config/presets/large.yaml"):
        jobs.prepare("demo", (), "/shared/runs", folder, clone)
    assert names_in(folder) == set()


def test_without_a_clone_there_is_nothing_to_submit(tmp_path, folder):
    with pytest.raises(UserError, match="submit from a clone of the project"):
        jobs.prepare("demo", (), "/shared/runs", folder, tmp_path)


def test_an_id_is_readable():
    assert re.fullmatch(r"my-demo-20\d{6}-\d{6}", jobs.new_id("my demo"))
    jobs.require_id(jobs.new_id("my demo"))
    for name in ("", "a b", "a/b", "../a", "-a"):
        with pytest.raises(UserError, match="letters, digits"):
            jobs.require_id(name)


@pytest.mark.parametrize(
    ("value", "address"),
    [("http://head:8265", "http://head:8265"), ("auto", LOCAL), ("10.0.0.1:6379", LOCAL), ("ray://head:10001", LOCAL)],
)
def test_the_environment_names_the_head_where_it_is_a_dashboard(monkeypatch, value, address):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert default_address() == address
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://other")
    assert default_address() == "https://other"


@pytest.fixture
def website():
    """A web server that is no head of a cluster."""
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_no_head_is_told_from_none_at_all(website):
    with pytest.raises(UserError, match="is no head of a Ray cluster"):
        jobs.require_head(website)
    with pytest.raises(UserError, match=r"no head answers at http://127.0.0.1:1 \(.*Connection refused\)"):
        jobs.require_head("http://127.0.0.1:1")
    with pytest.raises(UserError, match="--address head:8265 is not the address of a head's dashboard"):
        jobs.require_head("head:8265")


class StuckHead(BaseHTTPRequestHandler):
    """What a head answers whose job goes on whatever is asked."""

    ANSWERS = {  # noqa: RUF012
        "/api/version": {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "session"},
        "/api/jobs/stuck": {"type": "SUBMISSION", "submission_id": "stuck", "status": "RUNNING", "entrypoint": "sleep"},
        "/api/jobs/stuck/stop": {"stopped": True},
    }

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(self.ANSWERS[self.path]).encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stuck(monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # `head` sets it
    with HTTPServer(("127.0.0.1", 0), StuckHead) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_stop_that_never_ends_is_given_up_later_than_a_job_may_save(stuck, monkeypatch):
    assert jobs.STOPPING > jobs.GRACE
    monkeypatch.setattr(jobs, "STOPPING", 0.0)
    with pytest.raises(UserError) as refusal, jobs.head(stuck) as client:
        jobs.stop(client, "stuck")
    assert str(refusal.value) == (
        f"stuck has not ended within 0 seconds of its stop: it is still RUNNING; `stillhouse status stuck --address "
        f"{stuck}` shows when it has ended"
    )


class BusyHead(BaseHTTPRequestHandler):
    """A head that drops the connection of the first request to start a job."""

    STARTS = True  # the job before it does so
    jobs: ClassVar[dict[str, dict]]
    requests: ClassVar[list[str]]

    def do_GET(self) -> None:
        found = self.jobs.get(self.path.removeprefix("/api/jobs/"), {})
        self.answer(200, StuckHead.ANSWERS["/api/version"] if self.path == "/api/version" else found)

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = wanted["submission_id"]
        is_first, is_known = not self.requests, name in self.jobs
        self.requests.append(name)
        if not is_known and (self.STARTS or not is_first):
            about = {key: wanted[key] for key in ("submission_id", "entrypoint", "metadata")}
            self.jobs[name] = about | {"type": "SUBMISSION", "status": "PENDING"}
        if is_first:
            self.close_connection = True
        elif is_known:
            self.answer(400, f"Job with submission_id {name} already exists")
        else:
            self.answer(200, {"submission_id": name, "job_id": name})

    def answer(self, code: int, content: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


WANTED = jobs.Job("python -m orchestrator run demo.yaml", {"preset": "demo", "run": "demo-1"})


def test_a_head_that_is_lost_in_a_submit_may_have_started_the_job(folder, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setattr(jobs, "STARTING", -1.0)
    (folder / "demo.yaml").touch()
    with HTTPServer(("127.0.0.1", 0), type("Head", (BusyHead,), {"requests": [], "jobs": {}})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(UserError) as refusal, jobs.head(address) as client:
            jobs.submit(client, WANTED, folder, "one")
        server.shutdown()
    assert str(refusal.value) == (
        f"the head at {address} does not answer any longer, and may have started one: `stillhouse status one --address "
        f"{address}` shows it once it answers"
    )


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("is_others", [False, True])  # another submit of the same command and settings
def test_a_submit_whose_answer_is_lost_starts_its_job_once(starts, is_others, folder, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    server_class = type("Head", (BusyHead,), {"STARTS": starts, "requests": [], "jobs": {}})
    if is_others:
        other = {"entrypoint": WANTED.entrypoint, "metadata": WANTED.metadata | {"request": "0123456789abcdef"}}
        server_class.jobs["one"] = other | {"type": "SUBMISSION", "status": "PENDING", "submission_id": "one"}
    (folder / "demo.yaml").touch()
    with HTTPServer(("127.0.0.1", 0), server_class) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with jobs.head(f"http://127.0.0.1:{server.server_port}") as client:
                if is_others:
                    with pytest.raises(UserError, match="a job 'one' was submitted before"):
                        jobs.submit(client, WANTED, folder, "one")
                else:
                    jobs.submit(client, WANTED, folder, "one")
        finally:
            server.shutdown()
    assert server_class.requests == ["one", "one"] and list(server_class.jobs) == ["one"]


def test_what_is_logged_elsewhere_is_logged_again_afterwards(stuck):
    logging.disable(logging.DEBUG)
    try:
        with quiet_head(stuck):
            assert logging.root.manager.disable == logging.WARNING
        assert logging.root.manager.disable == logging.DEBUG
        with pytest.raises(UserError), quiet_head("http://127.0.0.1:1"):
            pass
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("FAILED", -9, 137), ("STOPPED", None, 130)],
)
def test_exit_codes(status, code, expected):
    from ray.dashboard.modules.job.pydantic_models import JobDetails

    job = JobDetails.model_validate(
        {"type": "SUBMISSION", "status": status, "entrypoint": "", "driver_exit_code": code}
    )
    assert exit_code(job) == expected


def test_a_node_without_the_packages_says_which_is_missing(folder):
    jobs.prepare("demo", (), "/shared/runs", folder)
    command = [sys.executable, "-S", "-m", "orchestrator", "run", "demo.yaml"]  # -S: no site-packages
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no package 'click'; install Stillhouse on every node" in done.stderr
    assert done.stderr.count("\n") == 1
