"""How the promoter, which hears the wake channels, wakes the scheduler: one subscription is enough for both.

Owns what was rung for since the last wait. Touches no server.
"""

from __future__ import annotations

import asyncio

from streamq.keys import ShardKeys


class Alarm:
    """Rung by one chore, waited for by another in the same event loop. deaf: nothing can be heard, so one has
    to look often."""

    def __init__(self) -> None:
        self.deaf = False
        self._rung = asyncio.Event()
        self._shards: set[ShardKeys] = set()
        self._everywhere = False

    def ring(self, shard: ShardKeys | None = None) -> None:
        """Something is due earlier in this shard; anywhere where it is not known."""
        if shard is None:
            self._everywhere = True
        else:
            self._shards.add(shard)
        self._rung.set()

    def taken(self) -> tuple[set[ShardKeys], bool]:
        """Return the shards that were rung for, and whether it was for all; from now on for none."""
        found = self._shards, self._everywhere
        self._shards, self._everywhere = set(), False
        self._rung.clear()
        return found

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait until it rings, at most so long; not where told to stop."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._rung, stop)]
        try:
            await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
