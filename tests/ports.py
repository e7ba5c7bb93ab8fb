"""Ports for servers that must be told theirs."""

import random
import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """That nothing listens on: below those that Linux gives to connections, above those of Ray's workers."""
    with ExitStack() as opened:
        found: list[int] = []
        while len(found) < count:
            try:
                server = opened.enter_context(socket.create_server(("127.0.0.1", random.randrange(20_000, 32_768))))
            except OSError:  # taken
                continue
            found.append(server.getsockname()[1])
        return found
