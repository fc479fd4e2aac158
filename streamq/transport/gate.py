"""Bounds the connections of one event loop to one server: who comes when all are in use waits for one.

Owns the number that is left and the line of those who wait. Knows no connection. A semaphore of asyncio does
the same, but costs each call a coroutine, also where nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """`free`: permits that are left. Who finds one takes it (`free -= 1`), or else waits; each `leave`s."""

    __slots__ = ("_line", "free")

    def __init__(self, permits: int) -> None:
        self.free: int = permits
        self._line: deque[asyncio.Future[None]] = deque()

    async def wait(self, seconds: float) -> None:
        """Wait for a permit. Raises TimeoutError."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()  # it came at the same moment
            turn.cancel()
            raise

    def leave(self) -> None:
        """Give the permit to the next in line."""
        line = self._line
        while line:
            turn = line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
