"""Where probes and scrapers are answered: a TCP port, a unix socket, or both.

Owns the binding, and what is in the way of it. Answers nobody: a supervisor that is asked by nobody need not
load what would.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamq.errors import CannotListen

MOST_CLIENTS: Final = 32


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: a port on a host (loopback unless said otherwise), a unix socket, or both.

    names: host names that it may be asked for by; see `web`.
    """

    port: int | None = None
    host: str = "127.0.0.1"
    path: Path | None = None
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.port is not None or self.path is not None

    def sockets(self) -> list[socket.socket]:
        """Bound and listening. Raises CannotListen where that cannot be."""
        found = [] if self.port is None else [_tcp(self.host, self.port)]
        try:
            return found if self.path is None else [*found, _unix(self.path)]
        except BaseException:
            for one in found:
                one.close()
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
        found.listen(MOST_CLIENTS)
    except (OSError, OverflowError) as error:
        found.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error}; choose another --metrics-port"
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
        found.listen(MOST_CLIENTS)
    except OSError as error:
        found.close()
        raise CannotListen(f"cannot listen on {path}: {error}") from None
    return found


def _remove_stale(path: Path) -> None:
    """A socket that a killed process left behind would be in the way for ever."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
