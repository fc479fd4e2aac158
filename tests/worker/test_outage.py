"""A worker whose servers are gone asks seldom for them, and ends soon when it is told to."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from streamq import StreamQ, Worker
from streamq.embedded import EmbeddedServer
from tests.conftest import command
from tests.running import until


async def test_a_worker_whose_server_is_gone_ends_soon() -> None:
    """It waited for a server that it does not need any more: for some seconds, and one for each shard."""
    with EmbeddedServer() as server:
        app = StreamQ("shop", server.url, shards=4)

        @app.task
        async def work() -> None: ...

        worker = Worker(app)
        running = asyncio.create_task(worker.run())
        await asyncio.wait_for(worker.ready.wait(), 10)
    await until(lambda: all(fetcher.unreachable_since for fetcher in worker.parts.shard_fetchers.fetchers))
    began = time.monotonic()
    worker.stop()
    await asyncio.wait_for(running, 10)
    assert time.monotonic() - began < 4.9  # less than its last settlements may take
    await app.aclose()


async def test_a_worker_that_waits_for_a_server_that_takes_no_writes_ends_at_once(url: str) -> None:
    command(url, "CONFIG", "RESETSTAT")
    command(url, "CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        app = StreamQ("shop", url)

        @app.task
        async def work() -> None: ...

        worker = Worker(app)
        running = asyncio.create_task(worker.run())
        await until(lambda: b"NOREPLICAS" in cast("bytes", command(url, "INFO", "errorstats")))
        worker.stop()
        await asyncio.wait_for(running, 1)
        await app.aclose()
    finally:
        command(url, "CONFIG", "SET", "min-replicas-to-write", "0")
