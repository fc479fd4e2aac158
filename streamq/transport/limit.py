"""Limits the connections of one event loop to one server: further calls wait for one that is in use.

Owns the number of free permits and the queue of waiting calls. Must not know a connection. A semaphore of
asyncio does the same, but costs each call a coroutine, even if none has to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque


class ConnectionLimit:
    """`free`: permits that are left. A caller takes one (`free -= 1`) if there is one, otherwise it waits;
    each caller releases its permit."""

    __slots__ = ("_waiting", "free")

    def __init__(self, permits: int) -> None:
        self.free: int = permits
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, seconds: float) -> None:
        """Wait for a permit. Raises TimeoutError."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(granted)
        try:
            async with asyncio.timeout(seconds):
                await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                self.release()  # granted at the same moment
            granted.cancel()
            raise

    def release(self) -> None:
        """Pass the permit to the next waiting call."""
        waiting = self._waiting
        while waiting:
            granted = waiting.popleft()
            if not granted.done():
                granted.set_result(None)
                return
        self.free += 1
