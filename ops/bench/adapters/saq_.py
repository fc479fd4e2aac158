"""SAQ: concurrency 100."""

from __future__ import annotations

import asyncio
from typing import Any

import common
import record
from saq import Queue, Worker

queue: Any = Queue.from_url(common.URL)
TTL = 600 if common.RESULTS else -1


async def noop(ctx: Any, *, stamp: int, text: str) -> None:
    record.mark(stamp)


async def nap(ctx: Any, *, stamp: int, text: str) -> None:
    await asyncio.sleep(0.05)
    record.mark(stamp)


async def send(kind: str, stamp: int) -> None:
    await queue.enqueue(kind, stamp=stamp, text=common.TEXT, ttl=TTL)


async def delayed(kind: str, stamp: int) -> None:
    import time

    await queue.enqueue(kind, stamp=stamp, text=common.TEXT, ttl=TTL, scheduled=time.time() + common.DELAY)


def work() -> None:
    worker = Worker(queue, functions=[("noop", noop), ("nap", nap)], concurrency=100)
    common.loop_run(worker.start())


if __name__ == "__main__":
    common.main(work=work, produce=common.async_producer(queue.connect, send, delayed), packages="saq redis")
