"""A worker and a daemon beside what is hostile: they must live, and good tasks must end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streamq import Daemon, DaemonOptions, StreamQ, TaskHandle, TaskType, Worker, WorkerOptions
from tests.conftest import command
from tests.running import begun

PREFIX = "streamq:{shop:0}:"
WORKER = WorkerOptions(concurrency=20, drain_timeout=2, block=0.2, heartbeat=0.2)
DAEMON = DaemonOptions(claim_interval=0.05, tidy_interval=0.05, discover_interval=0.05)


@dataclass
class Shop:
    """Two types: `email` is the one that is attacked, `other` its neighbour."""

    app: StreamQ
    email: TaskType[[int], int, object]
    other: TaskType[[int], int, object]

    @property
    def url(self) -> str:
        return str(self.app.address)

    def ask(self, *args: str | int | bytes) -> object:
        return command(self.url, *args)


def shop(url: str) -> Shop:
    """An app on an empty server."""
    command(url, "FLUSHALL")
    app = StreamQ("shop", url)

    @app.task(max_attempts=2, backoff=lambda _: 0.0, lease=0.3)
    async def email(x: int) -> int:
        return x

    @app.task(lease=0.3)
    async def other(x: int) -> int:
        return x

    return Shop(app, email, other)


@asynccontextmanager
async def alive(app: StreamQ) -> AsyncGenerator[None]:
    """A worker and a daemon; AssertionError where one of them did not live to the end."""
    worker, daemon = Worker(app, WORKER), Daemon(app.address, DAEMON)
    tasks = [await begun(daemon), await begun(worker)]
    try:
        yield
        assert not any(task.done() for task in tasks), "a service ended"
    finally:
        worker.stop()
        daemon.stop()
        await asyncio.gather(*tasks)
        await app.aclose()


async def good_ones_end(handles: list[TaskHandle[int]], want: int = 7, limit: float = 15.0) -> None:
    for handle in handles:
        assert await handle.aresult(limit) == want
