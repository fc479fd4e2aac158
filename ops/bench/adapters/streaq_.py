"""streaQ: concurrency 100."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import common
import record
from streaq import Worker

worker: Any = Worker(redis_url=common.URL, concurrency=100)
TTL = timedelta(minutes=5) if common.RESULTS else 0


@worker.task(ttl=TTL)
async def noop(stamp: int, text: str) -> None:
    record.mark(stamp)


@worker.task(ttl=TTL)
async def nap(stamp: int, text: str) -> None:
    await anyio.sleep(0.05)
    record.mark(stamp)


KINDS = {"noop": noop, "nap": nap}


def produce(how: str, count: int) -> float | None:
    async def send(kind: str, stamp: int) -> None:
        await KINDS[kind].enqueue(stamp, common.TEXT)

    async def delayed(kind: str, stamp: int) -> None:
        await KINDS[kind].enqueue(stamp, common.TEXT).start(delay=common.DELAY)

    async def many(kind: str, count: int) -> None:
        for start in range(0, count, 500):
            await worker.enqueue_many(
                [KINDS[kind].enqueue(common.stamp(), common.TEXT) for _ in range(min(500, count - start))]
            )

    async def run() -> float | None:
        async with worker:
            inner = common.async_producer(nothing, send, delayed, many)
            return await inner.__closure__[0].cell_contents(how, count)

    return common.loop_run(run())


async def nothing() -> None: ...


if __name__ == "__main__":
    common.main(work=worker.run_sync, produce=produce, packages="streaq coredis")
