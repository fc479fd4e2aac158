"""pydocket: concurrency 80 (its pool ends at 100 connections), minimum_check_interval 5 ms (default 250)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import common
import record
from docket import Docket, Worker

docket: Any = Docket(
    name="bench", url=common.URL, execution_ttl=timedelta(minutes=15) if common.RESULTS else timedelta(0)
)


async def noop(stamp: int, text: str) -> None:
    record.mark(stamp)


async def nap(stamp: int, text: str) -> None:
    await asyncio.sleep(0.05)
    record.mark(stamp)


KINDS = {"noop": noop, "nap": nap}


async def connect() -> None:
    await docket.__aenter__()
    for function in KINDS.values():
        docket.register(function)


async def send(kind: str, stamp: int) -> None:
    await docket.add(KINDS[kind])(stamp, common.TEXT)


async def delayed(kind: str, stamp: int) -> None:
    await docket.add(KINDS[kind], when=datetime.now(UTC) + timedelta(seconds=common.DELAY))(
        stamp, common.TEXT
    )


async def serve() -> None:
    await connect()
    async with Worker(docket, concurrency=80, minimum_check_interval=timedelta(milliseconds=5)) as worker:
        await worker.run_forever()


if __name__ == "__main__":
    common.main(
        work=lambda: common.loop_run(serve()),
        produce=common.async_producer(connect, send, delayed),
        packages="pydocket redis",
    )
