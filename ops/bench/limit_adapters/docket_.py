"""pydocket: `ConcurrencyLimit` on the argument, or on the function; minimum_check_interval 5 ms."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import record
from docket import ConcurrencyLimit, Docket, Worker

COMMAND, URL, KIND, *REST = sys.argv[1:]
OF_KEY, OF_TYPE = ConcurrencyLimit("key", max_concurrent=5), ConcurrencyLimit(max_concurrent=10)


async def of_key(key: str, stamp: int, limit: ConcurrencyLimit = OF_KEY) -> None:
    record.mark(stamp)
    await asyncio.sleep(0.005)


async def of_type(key: str, stamp: int, limit: ConcurrencyLimit = OF_TYPE) -> None:
    record.mark(stamp)
    await asyncio.sleep(0.005)


async def main() -> None:
    task = of_key if KIND == "key" else of_type
    async with Docket(name="limits", url=URL, execution_ttl=timedelta(0)) as docket:
        docket.register(task)
        if COMMAND == "produce":
            for n in range(int(REST[0])):
                await docket.add(task)(f"key {n % 20}", n)
            return
        async with Worker(docket, concurrency=80, minimum_check_interval=timedelta(milliseconds=5)) as worker:
            await worker.run_forever()


asyncio.run(main())
