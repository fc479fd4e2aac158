"""Slots that wait for a task, and how they are woken.

Owns the order in which they are. Takes no task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sized


class IdleSlots:
    """Of one worker. queue: what they wait for."""

    def __init__(self, queue: Sized) -> None:
        self._queue = queue
        self._sleeping: deque[asyncio.Future[None]] = deque()
        self._step = 0

    async def sleep(self) -> None:
        """Wait until woken."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append(future)
        await future

    def wake(self) -> None:
        """Wake slots while tasks wait: one, then with each turn of the loop twice as many.

        Handlers that never wait are then all run by the first slot, which costs no turn of the loop for
        each; those that do wait have all slots within a few turns.
        """
        if not self._step:
            self._spread()

    def _spread(self) -> None:
        self._step = min(2 * self._step or 1, len(self._queue), len(self._sleeping))
        for _ in range(self._step):
            self._wake_one()
        if self._step:
            asyncio.get_running_loop().call_soon(self._spread)

    def _wake_one(self) -> None:
        while self._sleeping:
            future = self._sleeping.popleft()
            if not future.done():
                future.set_result(None)
                return
