"""The sockets for probes and scrapers: a TCP port, a unix socket, or both.

Owns the binding and its errors. Must not import the server, so that a supervisor without an endpoint does
not load it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamq.errors import CannotListen

MAX_CLIENTS: Final = 32


@dataclass(frozen=True, slots=True)
class Listen:
    """The sockets to listen on: a port on a host (loopback by default), a unix socket, or both.

    names: host names to accept; see `http_server.WebServer`.
    """

    port: int | None = None
    host: str = "127.0.0.1"
    path: Path | None = None
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.port is not None or self.path is not None

    def sockets(self) -> list[socket.socket]:
        """Return the sockets, bound and listening. Raise CannotListen if one cannot be bound."""
        bound = [] if self.port is None else [_tcp(self.host, self.port)]
        try:
            return bound if self.path is None else [*bound, _unix(self.path)]
        except BaseException:
            for each in bound:
                each.close()
            raise


def _tcp(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error}") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(MAX_CLIENTS)
    except (OSError, OverflowError) as error:
        found.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error}. Choose another --metrics-port."
        ) from None
    return found


def _unix(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        before = os.umask(0o177)
        try:
            found.bind(str(path))
        finally:
            os.umask(before)
        found.listen(MAX_CLIENTS)
    except OSError as error:
        found.close()
        raise CannotListen(f"cannot listen on {path}: {error}") from None
    return found


def _remove_stale(path: Path) -> None:
    """Delete the socket file of a process that was killed: it would block the path forever."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
