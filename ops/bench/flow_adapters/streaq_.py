"""streaQ: pipelines (`|`) and `start(after=...)`, which waits for tasks but does not hand on their results;
concurrency 100."""

from __future__ import annotations

import asyncio
from typing import Any

import flow_common
import record
from streaq import Worker

worker: Any = Worker(redis_url=flow_common.URL, concurrency=100)


@worker.task()
async def number(n: int) -> int:
    return n


@worker.task()
async def end_of_chain(value: int, stamp: int) -> None:
    record.mark(stamp)


@worker.task()
async def end(stamp: int) -> None:
    record.mark(stamp)


async def chain(stamp: int) -> None:
    await number.enqueue(1).then(number).then(end_of_chain, stamp=stamp)


async def join(size: int, stamp: int) -> None:
    parts = [number.enqueue(n) for n in range(size)]
    await worker.enqueue_many(parts)
    await end.enqueue(stamp).start(after=[part.id for part in parts])


async def run(kind: str, count: int, size: int, stamp: int) -> None:
    async with worker:
        for begun in range(0, count, 100):
            some = range(min(100, count - begun))
            await asyncio.gather(*(chain(stamp) if kind == "chain" else join(size, stamp) for _ in some))


def start(kind: str, count: int, size: int, stamp: int) -> None:
    asyncio.run(run(kind, count, size, stamp))


if __name__ == "__main__":
    flow_common.main(work=worker.run_sync, start=start)
