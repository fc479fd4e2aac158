"""Owns finding a port of the loopback interface for a server of a test. Must not start servers."""

from __future__ import annotations

import socket
from random import SystemRandom
from typing import Final

# Below the ports that the kernel gives to connections: one of them could take it before its server does. A
# cluster node's bus listens 10,000 above its port.
PORTS: Final = range(10_240, 22_000)
_RANDOM: Final = SystemRandom()
_GIVEN: set[int] = set()


def free_port() -> int:
    """A port that nobody uses now, no other test was given, and a node of a cluster can have too."""
    while True:
        port = _RANDOM.choice(PORTS)
        if port in _GIVEN or not (_is_free(port) and _is_free(port + 10_000)):
            continue
        _GIVEN.add(port)
        return port


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
