"""What a task costs by how many task types there are: server time, round trip, commands of an idle worker.

    python ops/bench/many_types.py [--url URL] [--types 20 100 2000] [--tasks 200]

One worker in this process; tasks are sent one by one, each to another type, and waited for. The server is
emptied. Server time is what the server's own CPU counters say, so it counts whoever else uses it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import structlog
from server import flush, served

from streamq import StreamQ, Worker, WorkerOptions
from streamq.bench import bare

PAUSE: Final = 0.005
IDLE: Final = 10.0
HEAD: Final = (
    "| types | server ms a task | round trip p50 ms | p99 | worker ready after s | idle: server ms/s |"
)


def app_of(url: str, count: int) -> tuple[StreamQ, list[Any]]:
    """An app with so many types that do nothing."""
    app = StreamQ("bench-types", url)

    def one(name: str) -> Any:
        async def nothing() -> None: ...

        return app.task(name=name, retention=60)(nothing)

    return app, [one(f"type{n:05d}") for n in range(count)]


async def spent(url: str, work: Callable[[], Awaitable[Any]]) -> float:
    """Seconds of the server's CPU while something is done."""

    def used() -> float:
        with bare.connection(url) as client:
            found = client.info("cpu")
            return float(found["used_cpu_sys"] + found["used_cpu_user"])

    before = used()
    await work()
    return used() - before


async def row(url: str, count: int, tasks: int) -> str:
    """The line of the table for so many types."""
    flush(url)
    app, types = app_of(url, count)
    worker, began, trips = Worker(app, WorkerOptions()), time.monotonic(), list[float]()
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    ready = time.monotonic() - began
    await asyncio.sleep(2)

    async def work() -> None:
        for n in range(tasks):
            sent = time.perf_counter()
            await (await types[n * 7919 % count].aenqueue()).aresult(30)
            trips.append((time.perf_counter() - sent) * 1000)
            await asyncio.sleep(PAUSE)

    busy = await spent(url, work)
    await asyncio.sleep(1)
    idle = await spent(url, lambda: asyncio.sleep(IDLE))
    worker.stop()
    await running
    await app.aclose()
    p99 = sorted(trips)[len(trips) * 99 // 100]
    figures = (busy / tasks * 1000, statistics.median(trips), p99, ready, idle / IDLE * 1000)
    return f"| {count} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--types", type=int, nargs="+", default=[20, 100, 2000])
    parser.add_argument("--tasks", type=int, default=200)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder, served(args.url, Path(folder)) as url:
        print(HEAD, "| --- " * 6 + "|", sep="\n")
        for count in args.types:
            print(asyncio.run(row(url, count, args.tasks)), flush=True)


if __name__ == "__main__":
    main()
