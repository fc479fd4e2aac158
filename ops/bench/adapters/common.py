"""What every adapter has in common: its command line, the payload and the clock.

An adapter is a program with three commands, so that each system runs in its own environment:

    work URL              one worker process, until SIGTERM
    produce URL HOW N     enqueue N tasks; prints the seconds it took as JSON. HOW: one (at a time),
                          concurrent (100 single calls at once), many (the bulk API), spaced (one every
                          10 ms), delayed (as spaced, each due in one second), naps (tasks of 50 ms I/O)
    version               prints the version

Both take RESULTS=1 in the environment where results are to be kept. A task carries `stamp` (ns of the
monotonic clock: when it was enqueued, or for `delayed` when it is due) and `text`, and notes its start
with record.mark(stamp).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from typing import Any

TEXT = "x" * 72
URL = sys.argv[2] if len(sys.argv) > 2 else "redis://localhost:6379/0"
RESULTS = os.environ.get("RESULTS") == "1"
DELAY = 1.0


def stamp(delayed: bool = False) -> int:
    return time.monotonic_ns() + (round(DELAY * 1e9) if delayed else 0)


def paced(count: int) -> Iterator[int]:
    began = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, began + n * 0.01 - time.monotonic()))
        yield n


Send = Callable[[str, int], Any]
"""(kind: noop or nap, stamp) -> sends one task."""


def sync_producer(send: Send, delayed: Send, many: Callable[[str, int], Any] | None = None) -> Any:
    """A producer for systems with a sync API: `many(kind, count)` where they have a bulk call."""

    def produce(how: str, count: int) -> float | None:
        if how == "concurrent" or (how == "many" and many is None):
            return None
        began = time.perf_counter()
        if how == "many" and many is not None:
            many("noop", count)
        elif how in ("one", "naps"):
            for _ in range(count):
                send("nap" if how == "naps" else "noop", stamp())
        else:
            for _ in paced(count):
                delayed("noop", stamp(True)) if how == "delayed" else send("noop", stamp())
        return time.perf_counter() - began

    return produce


ASend = Callable[[str, int], Awaitable[Any]]


def async_producer(
    connect: Callable[[], Awaitable[Any]],
    send: ASend,
    delayed: ASend,
    many: Callable[[str, int], Awaitable[Any]] | None = None,
) -> Any:
    """A producer for systems with an async API."""

    async def run(how: str, count: int) -> float | None:
        await connect()
        began = time.perf_counter()
        if how == "many" and many is None:
            return None
        if how == "many" and many is not None:
            await many("noop", count)
        elif how in ("concurrent", "naps"):
            kind = "nap" if how == "naps" else "noop"
            for start in range(0, count, 100):
                await asyncio.gather(*(send(kind, stamp()) for _ in range(min(100, count - start))))
        elif how == "one":
            for _ in range(count):
                await send("noop", stamp())
        else:
            for _ in range(count):
                await (delayed("noop", stamp(True)) if how == "delayed" else send("noop", stamp()))
                await asyncio.sleep(0.01)
        return time.perf_counter() - began

    return lambda how, count: loop_run(run(how, count))


def loop_run(coroutine: Any) -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


def main(*, work: Callable[[], Any], produce: Any, packages: str) -> None:
    command = sys.argv[1]
    if command == "work":
        work()
    elif command == "version":
        print(", ".join(f"{name} {version(name)}" for name in packages.split()))
    else:
        seconds = produce(sys.argv[3], int(sys.argv[4]))
        print(json.dumps({"seconds": seconds}), flush=True)
        os._exit(0)  # no client's background threads keep us
