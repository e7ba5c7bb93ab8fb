"""Commands that only read a storage answer at once: they import neither torch nor Ray."""

import subprocess
import sys

import pytest

MODULES = {
    "watch": ("orchestrator.storage.runs", "orchestrator.watch.server"),
    "report": ("orchestrator.storage.runs", "orchestrator.report.build"),
    "compare": ("orchestrator.storage.runs", "orchestrator.finished.compare"),
    "clean": ("orchestrator.storage.clean", "orchestrator.storage.store"),
    "mlflow": ("orchestrator.storage.runs", "orchestrator.finished.mlflow", "orchestrator.report.folder"),
}
CODE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted({"torch", "ray", "tensorflow"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("command", MODULES)
def test_a_command_that_only_reads_imports_nothing_that_trains(command):
    modules = ("orchestrator.cli.main", *MODULES[command])
    done = subprocess.run([sys.executable, "-c", CODE, *modules], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_modules_are_those_that_the_commands_import():
    from pathlib import Path

    from orchestrator.cli import runs

    source = Path(runs.__file__).read_text(encoding="utf-8")
    for name in {name for modules in MODULES.values() for name in modules} - {"orchestrator.report.folder"}:
        assert f"from {name} import" in source, name
