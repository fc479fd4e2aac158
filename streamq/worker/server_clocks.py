"""The servers' clocks as far as a worker knows them: each shard may be on a different server.

Owns the offsets to the local monotonic clock. Must not call a server.
"""

from __future__ import annotations

import time


class ServerClocks:
    """The clock of each shard's server; the local clock until that server has reported its time."""

    def __init__(self) -> None:
        self._offsets: dict[int, float] = {}
        self._local = time.time() - time.monotonic()

    def set(self, shard: int, server_ms: int) -> None:
        """Record the current time of the shard's server."""
        self._offsets[shard] = server_ms / 1000 - time.monotonic()

    def offset(self, shard: int) -> float:
        """Return the seconds to add to the monotonic clock to get the server's time since the epoch."""
        return self._offsets.get(shard, self._local)

    def ms(self, when: float, shard: int = 0) -> int:
        """Return the server's time, in ms since the epoch, at the monotonic time `when`."""
        return round((when + self.offset(shard)) * 1000)

    def now_ms(self, shard: int = 0) -> int:
        """Return the server's current time, in ms since the epoch."""
        return self.ms(time.monotonic(), shard)
