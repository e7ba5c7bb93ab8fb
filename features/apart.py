"""Decoding in a process of its own: a decoder that dies of a file, or hangs in it, costs that file and no run.

libsndfile and the codecs below it are native code that reads what strangers have written. The process is started with
the first file and kept; it ends with the one that started it.
"""

import atexit
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.decoding import BadAudio, Decoded, decode

SECONDS = 10  # of a processor that any file may take
BYTES_PER_SECOND = 20_000  # of a file that one more is given for: Opus at 6 kbit/s, at 27 times its speed
MORE = 600  # at most
DYING = 10.0  # seconds that a process whose pipe has ended may take to be gone
KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)  # by somebody, or for want of memory: no file does that

type Decode = Callable[[bytes, float | None], Decoded]


class Decoder:
    """A process that decodes one file after another. Threads may share it."""

    def __init__(self, function: Decode = decode, seconds: int = SECONDS) -> None:
        """`function`, of a module, is what the process calls; `seconds` of a processor any file may take."""
        self.function, self.seconds = function, seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection | None = None
        self.lock = threading.Lock()

    def decode(self, data: bytes, seconds: float | None = None) -> Decoded:
        """`features.decoding.decode`, apart. Raises BadAudio, and OSError where not the file is at fault."""
        with self.lock:
            first = self.attempt(data, seconds)
            if isinstance(first, Decoded):
                return first
            again = self.attempt(data, seconds)  # an earlier file may have damaged that process: a fresh one decides
            if isinstance(again, Decoded):
                return again
            raise verdict(again)

    def attempt(self, data: bytes, seconds: float | None) -> Decoded | int:
        """What the file holds, or the exit code of the process where it dies. Raises BadAudio and OSError."""
        process, pipe = self.running()
        request = {"seconds": seconds, "limit": self.limit(len(data))}
        try:
            pipe.send_bytes(json.dumps(request).encode())
            pipe.send_bytes(data)
            answer: dict[str, Any] = json.loads(pipe.recv_bytes())
            samples = np.empty(answer.get("shape", 0), np.float32)
            if "shape" in answer:
                pipe.recv_bytes_into(samples.reshape(-1).view(np.uint8))
        except (EOFError, OSError):  # it is dead, or dying: a pipe's end is the one or the other
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=DYING)
            self.end()
            return process.returncode
        except BaseException:  # what was not read of this answer would be taken for the next file's
            self.end()
            raise
        if "bad" in answer:
            raise BadAudio(answer["bad"])
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return Decoded(samples, answer["rate"])

    def limit(self, size: int) -> int:
        """Seconds of a processor that a file of `size` bytes may take."""
        return self.seconds + min(size // BYTES_PER_SECOND, MORE)

    def running(self) -> tuple[subprocess.Popen[bytes], Connection]:
        """Started where it is not."""
        if self.process is None or self.pipe is None:
            self.pipe, theirs = Pipe()
            roots = [str(Path(__file__).parents[1]), *map(os.path.abspath, filter(None, sys.path))]
            module, name = self.function.__module__, self.function.__qualname__
            program = f"from features.apart import serve; from {module} import {name}; serve({name})"
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", program, str(theirs.fileno())],  # nothing of the working directory
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
                )
        return self.process, self.pipe

    def end(self) -> None:
        """End the process, in the middle of a file, too: it has nothing to save."""
        if self.process is not None and self.pipe is not None:
            self.pipe.close()
            self.process.kill()
            self.process.wait()
        self.process = self.pipe = None


def verdict(code: int) -> Exception:
    """Why a fresh process ended, with `code`, when it was to decode."""
    if code == -signal.SIGXCPU:
        return BadAudio("its decoder does not come to an end")
    if code >= 0:
        return OSError(errno.EIO, f"the process that decodes does not start, or fails (code {code})")
    if -code in KILLED:
        name = signal.Signals(-code).name
        return OSError(errno.ENOMEM, f"the process that decodes was killed twice ({name}), for want of memory?")
    return BadAudio(f"its decoder dies of it ({signal.Signals(-code).name})")


@cache
def decoder() -> Decoder:
    """This process' own."""
    own = Decoder()
    atexit.register(own.end)
    return own


def decode_apart(data: bytes, seconds: float | None = None) -> Decoded:
    """`features.decoding.decode` in another process. Raises BadAudio, and OSError where not the file is at fault."""
    return decoder().decode(data, seconds)


def serve(function: Decode) -> None:
    """Decode what comes by the pipe whose descriptor is this program's argument, until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks: its end is the pipe's
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders of MPEG audio write there
    os.chdir(os.sep)  # in a folder with a file "._", libsndfile takes that for every MP3's resource fork
    with Connection(int(sys.argv[1])) as pipe, suppress(EOFError, BrokenPipeError):
        while True:
            respond(pipe, function)


def respond(pipe: Connection, function: Decode) -> None:
    """Decode one file. What it takes in memory goes with this call, not with the next file."""
    request = json.loads(pipe.recv_bytes())
    data = pipe.recv_bytes()
    allow(request["limit"])
    answer, samples = answer_of(function, data, request["seconds"])
    pipe.send_bytes(json.dumps(answer).encode())
    if samples is not None:
        pipe.send_bytes(samples.reshape(-1).view(np.uint8))


def answer_of(
    function: Decode, data: bytes, seconds: float | None
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """What the other process is told, and the samples (frame, channel) that follow it."""
    try:
        decoded = function(data, seconds)
    except BadAudio as error:
        return {"bad": str(error)}, None
    except OSError as error:
        return {"errno": error.errno}, None
    return {"shape": decoded.samples.shape, "rate": decoded.rate}, np.ascontiguousarray(decoded.samples)


def allow(seconds: int) -> None:
    """Let this process be ended (SIGXCPU) after so many more seconds of a processor: of its own, not of the clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
