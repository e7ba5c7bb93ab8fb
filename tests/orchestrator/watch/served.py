"""The server as a process of its own, as the command line runs it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from orchestrator.storage.store import Store
from orchestrator.watch.server import serve
serve(Store(sys.argv[1]), Path(sys.argv[2]), port=int(sys.argv[3]), echo=lambda text: print(text, flush=True))
"""


@contextmanager
def served(root: Path, run: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the line that it says; it is killed at the end."""
    command = [sys.executable, "-c", CODE, str(root), str(run), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()
