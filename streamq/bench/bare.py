"""The bare loop: the minimum for at-least-once on a Redis Stream, with the client library as it comes.

Owns what streamq is compared with: redis-py with hiredis and uvloop, XADD, XREADGROUP of 100, orjson, an
awaited no-op, one pipeline of XACK and XDEL per batch. No leases, retries, timeouts, results, counters or
logs: their cost is the difference. The only module besides `transport` that imports redis.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import orjson
import redis
from redis import asyncio as aioredis

from streamq import environment
from streamq.bench.record import mark
from streamq.bench.side import TEXT, Side, child, paced

GROUP: Final = "workers"
COUNT: Final = 100
Client = Any
"""A client of redis-py, sync or async: its own types give each reply as a union of both."""
POLL: Final = 0.02
"""Seconds between two polls of the bare promoter."""


def connectable(url: str) -> str:
    """Return the URL in the client library's syntax."""
    return url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)


def payload(stamp: int) -> bytes:
    return orjson.dumps({"stamp": stamp, "text": TEXT})


class Bare(Side):
    """The bare loop on one server."""

    name = "bare"

    def __init__(self, url: str, app: str) -> None:
        self.url: str = connectable(url)
        self.stream: str = f"{app}:stream"
        self.schedule: str = f"{app}:schedule"
        self._environment = {environment.URL.name: self.url}
        self.redis: Client = redis.Redis.from_url(self.url)

    def one(self, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            self.redis.xadd(self.stream, {"p": payload(time.monotonic_ns())})
        return time.perf_counter() - began

    async def aone(self, count: int) -> float:
        client: Client = aioredis.Redis.from_url(self.url)
        began = time.perf_counter()
        for _ in range(count):
            await client.xadd(self.stream, {"p": payload(time.monotonic_ns())})
        seconds = time.perf_counter() - began
        await client.aclose()
        return seconds

    async def concurrent(self, count: int) -> float:
        """Send 100 XADDs in each pipeline."""
        client: Client = aioredis.Redis.from_url(self.url)
        began = time.perf_counter()
        for _ in range(count // 100):
            async with client.pipeline(transaction=False) as pipe:
                for _ in range(100):
                    pipe.xadd(self.stream, {"p": payload(time.monotonic_ns())})
                await pipe.execute()
        seconds = time.perf_counter() - began
        await client.aclose()
        return seconds

    def many(self, count: int, *, stored: bool = False) -> float:  # noqa: ARG002 - never stores
        """Send as many XADDs in a pipeline as `enqueue_many` puts into a call."""
        began = time.perf_counter()
        for start in range(0, count, 300):
            with self.redis.pipeline(transaction=False) as pipe:
                for _ in range(min(300, count - start)):
                    pipe.xadd(self.stream, {"p": payload(time.monotonic_ns())})
                pipe.execute()
        return time.perf_counter() - began

    def delayed(self, count: int, delay: float, gap: float) -> None:
        for _ in paced(count, gap):
            due = time.monotonic_ns() + round(delay * 1e9)
            self.redis.zadd(self.schedule, {payload(due): time.time() + delay})

    def spaced(self, count: int, gap: float) -> None:
        for _ in paced(count, gap):
            self.redis.xadd(self.stream, {"p": payload(time.monotonic_ns())})

    def worker(self, processes: int = 1, concurrency: int = 100) -> AbstractContextManager[None]:  # noqa: ARG002 - one at a time
        self.redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        return child(["-m", "streamq.bench.bare", "work", self.stream], self._environment, processes)

    def daemon(self) -> AbstractContextManager[None]:
        return child(["-m", "streamq.bench.bare", "promote", self.stream, self.schedule], self._environment)

    def bytes_used(self) -> int:
        return used(self.redis, [self.stream, self.schedule])

    def clean(self) -> None:
        self.redis.unlink(self.stream, self.schedule)

    def close(self) -> None:
        self.redis.close()


def used(client: Client, keys: list[object]) -> int:
    """Return the bytes that the server needs for these keys."""
    return sum(client.memory_usage(key, samples=0) or 0 for key in keys)


def keys_of(client: Client, pattern: str) -> list[object]:
    return list(client.scan_iter(pattern, count=1000))


@contextmanager
def connection(url: str) -> Generator[Client]:
    """Open a plain client for the harness's own questions to the server."""
    client = redis.Redis.from_url(connectable(url))
    try:
        yield client
    finally:
        client.close()


async def _noop(stamp: int, text: str) -> None:  # noqa: ARG001 - the handlers' payload
    mark(stamp)


async def work(url: str, stream: str) -> None:
    """Run the bare worker: read up to 100, run each, acknowledge and delete all, for ever."""
    client: Client = aioredis.Redis.from_url(url)
    me = f"bare-{os.getpid()}"
    while True:
        found = await client.xreadgroup(GROUP, me, {stream: ">"}, count=COUNT, block=1000)
        for _, entries in found:
            for _, fields in entries:
                await _noop(**orjson.loads(fields[b"p"]))
            ids = [entry for entry, _ in entries]
            async with client.pipeline(transaction=False) as pipe:
                pipe.xack(stream, GROUP, *ids)
                pipe.xdel(stream, *ids)
                await pipe.execute()


async def promote(url: str, stream: str, schedule: str) -> None:
    """Run the bare promoter: poll every 20 ms, as a promoter does that cannot be woken."""
    client: Client = aioredis.Redis.from_url(url)
    while True:
        for due in await client.zrangebyscore(schedule, 0, time.time()):
            async with client.pipeline() as pipe:
                pipe.xadd(stream, {"p": due})
                pipe.zrem(schedule, due)
                await pipe.execute()
        await asyncio.sleep(POLL)


def main(argv: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    command, *names = argv
    run: Callable[..., Coroutine[object, object, None]] = work if command == "work" else promote
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        asyncio.run(run(environment.URL.get(), *names))
    else:
        uvloop.run(run(environment.URL.get(), *names))


if __name__ == "__main__":
    main(sys.argv[1:])
