"""The command line: quick help, one line a mistake, exit codes."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from orchestrator.cli.main import keep_proxies_from_this_machine, main

COMMANDS = ["", "run", "report", "reproduce", "predict", "corpus", "corpus make", "corpus check", "config show"]
COMMANDS += ["submission make", "submission check", "compare", "clean", "watch", "refit", "mlflow"]
COMMANDS += ["submit", "status", "logs", "stop", "list"]
HEAVY = {"torch", "ray", "numpy", "pydantic", "tensorflow", "rich"}


def stillhouse(*words: str, cwd=None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from orchestrator.cli.main import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = stillhouse(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage:")


def test_help_imports_nothing_heavy():
    code = "import sys, orchestrator.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()


def test_a_config_is_read_without_torch():
    code = "import sys, orchestrator.config.loading; orchestrator.config.loading.load('demo'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "ray", "tensorflow"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "dmeo"], "did you mean 'demo'?"),
        (["run", "demo", "--set", "sede=1"], "did you mean 'seed'?"),
        (["run", "dcase2021", "--set", "corpus.root=/nowhere"], "corpus root /nowhere is not there; set corpus.root"),
        (["corpus", "check", "dcase2021"], "is not there; set corpus.root"),
        (["report", "nowhere"], "not the folder of a finished run"),
        (["reproduce", "nowhere"], "not the folder of a finished run"),
        (["predict", "no.tflite", "x.wav"], "no.tflite is not there"),
        (["corpus", "make", "esc10"], "has no corpus.generate"),
        (["run"], "Missing argument"),
        (["rnu"], "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, expected, tmp_path):
    done = stillhouse(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1


def test_storage_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = stillhouse("run", "demo", "--storage", str(tmp_path / "file" / "runs"), cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--version"], ["rnu"]])
def test_sigterm_does_afterwards_what_it_did_before(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stillhouse", *words])

    def mine(_number: int, _frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with suppress(SystemExit):
            main()
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.integration
def test_a_storage_on_this_machine_is_reached_without_the_environments_proxy(s3, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    done = stillhouse("report", s3.format("proxied/demo-1"))
    assert (done.returncode, "it has no results.json" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("upper", "lower", "kept"),
    [
        ("", "", "localhost,127.0.0.1,::1"),
        ("intern.example, 127.0.0.1", "", "intern.example,127.0.0.1,localhost,::1"),
        ("", "intern.example", "intern.example,localhost,127.0.0.1,::1"),
        ("a.example", "b.example,a.example", "a.example,b.example,localhost,127.0.0.1,::1"),
        ("*", "", "*"),
    ],
)
def test_hosts_without_a_proxy_are_kept_and_this_machine_is_one_of_them(monkeypatch, upper, lower, kept):
    monkeypatch.setenv("NO_PROXY", upper)
    monkeypatch.setenv("no_proxy", lower)
    keep_proxies_from_this_machine()
    assert (os.environ["NO_PROXY"], os.environ["no_proxy"]) == (kept, kept)
