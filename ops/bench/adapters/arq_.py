"""arq: 100 jobs at a time, poll_delay 10 ms (500 ms by default)."""

from __future__ import annotations

import asyncio
from typing import Any

import arq
import common
import record
from arq.connections import RedisSettings

SETTINGS = RedisSettings.from_dsn(common.URL)
pool: Any = None


async def noop(ctx: Any, stamp: int, text: str) -> None:
    record.mark(stamp)


async def nap(ctx: Any, stamp: int, text: str) -> None:
    await asyncio.sleep(0.05)
    record.mark(stamp)


async def connect() -> None:
    global pool
    pool = await arq.create_pool(SETTINGS)


async def send(kind: str, stamp: int) -> None:
    await pool.enqueue_job(kind, stamp, common.TEXT)


async def delayed(kind: str, stamp: int) -> None:
    await pool.enqueue_job(kind, stamp, common.TEXT, _defer_by=common.DELAY)


def work() -> None:
    keep = 3600 if common.RESULTS else 0
    worker = arq.worker.Worker(
        [noop, nap],
        redis_settings=SETTINGS,
        max_jobs=100,
        poll_delay=0.01,
        keep_result=keep,
        log_results=False,
    )
    worker.run()


asyncio.set_event_loop(asyncio.new_event_loop())
if __name__ == "__main__":
    common.main(work=work, produce=common.async_producer(connect, send, delayed), packages="arq redis")
