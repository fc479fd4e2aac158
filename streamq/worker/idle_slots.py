"""The idle slots, and how they are woken when tasks arrive.

Owns the order of waking. Must not take a task from the queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sized


class IdleSlots:
    """The idle slots of one worker. queue: the tasks that wait for a slot."""

    def __init__(self, queue: Sized) -> None:
        self._queue = queue
        self._sleeping: deque[asyncio.Future[None]] = deque()
        self._batch = 0

    async def sleep(self) -> None:
        """Wait until woken."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append(future)
        await future

    def wake(self) -> None:
        """Wake slots while tasks wait: one, then twice as many with each iteration of the event loop.

        Handlers that never await then all run in the first slot, without a loop iteration for each; handlers
        that do await get all slots within a few iterations.
        """
        if not self._batch:
            self._wake_more()

    def _wake_more(self) -> None:
        self._batch = min(2 * self._batch or 1, len(self._queue), len(self._sleeping))
        for _ in range(self._batch):
            self._wake_one()
        if self._batch:
            asyncio.get_running_loop().call_soon(self._wake_more)

    def _wake_one(self) -> None:
        while self._sleeping:
            future = self._sleeping.popleft()
            if not future.done():
                future.set_result(None)
                return
