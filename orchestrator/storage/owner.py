"""Which process made a file, and whether that process is still running.

The number of a process is given to another one later, so its start is written beside it.
"""

import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What identifies this process, for a JSON file: `machine`, `process` and `begun`."""
    return {"machine": machine(), "process": os.getpid(), "begun": begun(os.getpid())}


def is_dead_here(owner: Mapping[str, Any]) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    if owner.get("machine") != machine():
        return False
    process = int(owner["process"])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process has this number
        pass
    now = begun(process)
    return None not in (now, owner.get("begun")) and now != owner["begun"]  # where one is unknown, it may be alive


def machine() -> str:
    """What process numbers belong to: a boot of a kernel, and a name space of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def begun(process: int) -> int | None:
    """Clock ticks from the kernel's boot to the start of a process; None where the system does not say."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22 of proc(5); the second, a name, may hold spaces
