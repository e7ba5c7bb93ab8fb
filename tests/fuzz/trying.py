"""One input after another in a process of its own, with limits: what dies or hangs there is counted, not suffered."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from features.apart import allow

SECONDS = 20  # of a processor, for one input; a busy machine makes of one second several
MEMORY = 8 * 2**30  # bytes of addresses; torch and TensorFlow take 5 of them before they do anything
PROGRAM = "from tests.fuzz.trying import child; child()"
ACCEPTED, REFUSED, TRACEBACK, HANG, DIED, WRONG, EXECUTED = (
    *("accepted", "refused", "traceback", "hang", "died", "wrong", "executed"),
)
OUTCOMES = (ACCEPTED, REFUSED, TRACEBACK, HANG, DIED, WRONG, EXECUTED)
FAULTS = OUTCOMES[2:]


class Wrong(Exception):
    """An input was accepted with values that are not its own."""


@dataclass(frozen=True)
class Kind:
    """One sort of input."""

    prepare: Callable[[Path], None]  # what all inputs need, in a folder
    write: Callable[[random.Random, Path], None]  # one input, into that folder
    judge: Callable[[Path], str | None]  # why it is refused, None where it is accepted; any exception is a fault


@dataclass(frozen=True)
class Outcome:
    number: int
    what: str  # one of OUTCOMES
    why: str  # the line, the traceback, the signal
    megabytes: int  # the process' peak so far


def outcomes(name: str, seed: int, numbers: range, folder: Path) -> Iterator[Outcome]:
    """Try the inputs `numbers` of a kind; one that ends the process is counted, and the next one has a new process."""
    while numbers:
        command = [sys.executable, "-c", PROGRAM, name, str(seed), str(numbers.start), str(numbers.stop), str(folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    outcome = Outcome(**json.loads(line))
                    yield outcome
                    numbers = range(outcome.number + 1, numbers.stop)
            process.wait()
            errors.seek(0)
            text = errors.read().decode(errors="replace")[-2000:]
        if process.returncode == 0:
            return
        if process.returncode > 0:  # not the input's: this program is wrong
            raise RuntimeError(text)
        is_hang = process.returncode == -signal.SIGXCPU
        yield Outcome(numbers.start, HANG if is_hang else DIED, f"signal {-process.returncode}\n{text}", 0)
        numbers = range(numbers.start + 1, numbers.stop)


def child() -> None:
    """The process: its arguments are the kind, the seed, the numbers and a folder."""
    from tests.fuzz.kinds import KINDS

    name, seed, start, stop, place = sys.argv[1:]
    kind, folder = KINDS[name], Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    kind.prepare(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # commands print there
    os.chdir(folder)
    for number in range(int(start), int(stop)):
        kind.write(random.Random(f"{seed} {name} {number}"), folder)
        allow(SECONDS)
        what, why = judged(kind, folder)
        if Path("executed").exists():
            what = EXECUTED
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        out.write(json.dumps({"number": number, "what": what, "why": why, "megabytes": peak}) + "\n")
        out.flush()
    os._exit(0)  # what libraries do at their end is no input's


def judged(kind: Kind, folder: Path) -> tuple[str, str]:
    try:
        refusal = kind.judge(folder)
    except Wrong as error:
        return WRONG, str(error)
    except BaseException:
        return TRACEBACK, traceback.format_exc()[-3000:]
    if refusal is not None and "\n" in refusal.strip():
        return TRACEBACK, f"not one line: {refusal}"
    return (ACCEPTED, "") if refusal is None else (REFUSED, refusal)
