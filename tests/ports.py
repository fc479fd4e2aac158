"""Owns finding a port of the loopback interface for a server of a test. Must not start servers."""

from __future__ import annotations

import socket

# A cluster node's bus listens 10,000 above its port.
HIGHEST = 55535


def free_port() -> int:
    """A port that nobody uses now and that a node of a cluster can have too."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port if port <= HIGHEST else free_port()
