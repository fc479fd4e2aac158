"""What the servers' clocks say, as far as a worker knows: each shard may be on another server.

Owns the offsets to our monotonic clock. Asks nobody.
"""

from __future__ import annotations

import time


class ServerClocks:
    """Until a server has said what time it is, ours counts."""

    def __init__(self) -> None:
        self._offsets: dict[int, float] = {}
        self._ours = time.time() - time.monotonic()

    def set(self, shard: int, server_ms: int) -> None:
        """What the clock of the shard's server says now."""
        self._offsets[shard] = server_ms / 1000 - time.monotonic()

    def offset(self, shard: int) -> float:
        """Seconds between our monotonic clock and the epoch, by the shard's server."""
        return self._offsets.get(shard, self._ours)

    def ms(self, when: float, shard: int = 0) -> int:
        """A time of our monotonic clock by that of the shard's server, in ms since the epoch."""
        return round((when + self.offset(shard)) * 1000)

    def now_ms(self, shard: int = 0) -> int:
        """The clock of the shard's server now."""
        return self.ms(time.monotonic(), shard)
