"""Tell that this process stood still for longer than a lease lasts: other workers may have its tasks by now.

Owns until when that cannot have gone unnoticed. A machine that is paused, a debugger, or an extension that
holds the interpreter stops the lease thread and the event loop alike, and the loop may go on first. A
pause in which the monotonic clock stands still is not seen.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

LONGEST_WAIT: Final = 5.0
"""Seconds within which leases are renewed then. After that the server is taken to be away, for others too."""
_POLL_INTERVAL: Final = 0.01


class StoodStill(BaseException):
    """An attempt must not begin before the leases were renewed."""


class Renewals:
    """Until when (monotonic) no lease of this worker can have ended unnoticed. Set in the lease thread."""

    def __init__(self) -> None:
        self.until: float = math.inf

    def check(self) -> None:
        """Raise StoodStill if a lease may have ended unnoticed."""
        if time.monotonic() > self.until:
            raise StoodStill

    def renewed(self, until: float, loop: asyncio.AbstractEventLoop) -> None:
        """Note a renewal. May be called from another thread. After a standstill it counts once the event loop
        has heard of the deliveries that were lost meanwhile."""
        if time.monotonic() <= self.until:
            self.until = until
        elif not loop.is_closed():
            loop.call_soon_threadsafe(setattr, self, "until", until)

    async def wait(self) -> None:
        """Wait until the leases are renewed."""
        latest = time.monotonic() + LONGEST_WAIT
        while self.until < time.monotonic():
            if time.monotonic() > latest:
                self.until = math.inf
            await asyncio.sleep(_POLL_INTERVAL)
