"""Bound the connections to the dashboard's own server: their number, in total and for each peer, and their
duration.

Owns the connections that wait for a request. If there are too many, those that have been silent for longest
are closed first and one with a request is not, so a probe is always answered.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

MOST: Final = 512
"""Connections in total: below the 1,024 open files that many systems allow a process."""
MOST_SILENT: Final = 64
"""Connections of one peer without a request: a browser opens six."""
PATIENCE: Final = 10.0
"""Seconds for a client to send its request, and again to read the end of a response."""


class Connections:
    """The connections of one server."""

    def __init__(self, most: int = MOST, most_silent: int = MOST_SILENT, patience: float = PATIENCE) -> None:
        self._most, self._most_silent = most, most_silent
        self.patience: float = patience
        self._open: dict[object, str] = {}  # oldest first

    def add(self, protocol: object, peer: str) -> None:
        """Add a connection. If there are too many, close the oldest silent one of the same peer, or of
        all."""
        self._open[protocol] = peer
        silent = [one for one in self._open if one is not protocol and not _busy(one)]
        mine = [one for one in silent if self._open[one] == peer]
        if len(mine) >= self._most_silent:
            _close(mine[0])
        elif len(self._open) > self._most:
            _close(silent[0] if silent else protocol)

    def remove(self, protocol: object) -> None:
        self._open.pop(protocol, None)

    def peers(self) -> Counter[str]:
        """Return how many connections each peer holds."""
        return Counter(self._open.values())


def _busy(protocol: Any) -> bool:
    """Return whether a request of this connection is being answered."""
    return protocol.cycle is not None and not protocol.cycle.response_complete


def _close(protocol: Any) -> None:
    protocol.transport.abort()


def protocol_class(connections: Connections) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with these bounds."""

    class BoundedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._loop: asyncio.AbstractEventLoop = self.loop  # pyright: ignore[reportAttributeAccessIssue]
            self._answered: Any = None
            peer = transport.get_extra_info("peername")
            connections.add(self, str(peer[0]) if isinstance(peer, tuple) else "unix")
            self._watch = self._loop.call_later(connections.patience, self._look)

        def _look(self) -> None:
            """Close a connection that waits for a request, or for the rest of one that was answered."""
            if not _busy(self):
                cycle = getattr(self, "cycle", None)
                if cycle is self._answered:
                    _close(self)
                    return
                self._answered = cycle
            self._watch = self._loop.call_later(connections.patience, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.cancel()
            connections.remove(self)
            super().connection_lost(exc)

    return BoundedProtocol
