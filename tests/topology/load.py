"""Producers that enqueue without a pause, and the account of what became of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from streamq import StreamQ, TaskHandle
from tests.running import clean, serving, until


class Load:
    """What was accepted while it ran, and which handlers ran."""

    def __init__(self, app: StreamQ) -> None:
        self.app = app
        self.accepted: list[TaskHandle[Any]] = []
        self.runs: Counter[int] = Counter()
        self.stopped = asyncio.Event()
        self._number = 0

    def next(self) -> int:
        self._number += 1
        return self._number

    async def enqueue(self) -> None:
        """One task after the other, some delayed."""
        while not self.stopped.is_set():
            n = self.next()
            delay = 0.05 if n % 10 == 0 else None
            self.accepted.append(await self.app.asend("work", {"n": n}, delay=delay))

    def enqueue_in_thread(self) -> None:
        """The same with the sync client."""
        while not self.stopped.is_set():
            self.accepted.append(self.app.send("work", {"n": self.next()}))

    async def more(self, number: int, limit: float = 20.0) -> None:
        """Wait until so many more were accepted."""
        wanted = len(self.accepted) + number
        await until(lambda: len(self.accepted) >= wanted, limit)


@asynccontextmanager
async def under_load(app: StreamQ, producers: int = 3) -> AsyncGenerator[Load]:
    """A worker, a daemon and producers. At the end every accepted task must have ended, each once."""
    load = Load(app)

    @app.task(lease=30, max_attempts=5, backoff=lambda _: 0.05)
    async def work(n: int) -> int:
        load.runs[n] += 1
        await asyncio.sleep(0.002)
        if n % 20 == 1 and load.runs[n] == 1:
            raise OSError("once")
        return n

    async with serving(app):
        sending = [asyncio.create_task(load.enqueue()) for _ in range(producers)]
        sending.append(asyncio.create_task(asyncio.to_thread(load.enqueue_in_thread)))
        try:
            await load.more(50)
            yield load
        finally:
            load.stopped.set()
            await asyncio.gather(*sending)
        await account(load)


async def account(load: Load) -> None:
    """Nothing is lost, nothing was settled twice, nothing is where it should not be."""
    results = await asyncio.gather(*(handle.aresult(30) for handle in load.accepted))
    assert len(set(results)) == len(results) == len({handle.id for handle in load.accepted})
    stats = await asyncio.to_thread(load.app.inspector.type_stats, "work")
    assert (stats.ready, stats.running, stats.scheduled, stats.dead) == (0, 0, 0, 0)
    assert stats.counters["accepted"] == stats.counters["completed"] == len(results)
    await asyncio.to_thread(clean, load.app)
