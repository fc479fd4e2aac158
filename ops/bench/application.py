"""What streamq costs in a user's own application: seals, dependencies, sessions, the outbox, the test kit.

    python ops/bench/application.py [--database postgresql+psycopg://USER@/DATABASE?host=/run/postgresql]

Prints one table. Starts a private server; without --database the outbox is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import outbox
import payloads

from streamq import Depends, KeyRing, StreamQ, Worker, WorkerOptions
from streamq.context import Context
from streamq.embedded import EmbeddedServer
from streamq.payloads.pipeline import opened, pipeline_for
from streamq.payloads.stage import About
from streamq.resources.attempt import managers
from streamq.testing import Queue

ATTEMPTS, RUNS = 1000, 5
Figure = tuple[str, str]


def seals() -> Iterator[Figure]:
    """Yield what a seal and compression cost a task."""
    ring = KeyRing(current="2026-11", keys={"2026-11": os.urandom(32)})
    about = About(StreamQ("bench", "redis://localhost:1", keys=ring).name, "order", "payload")
    for name, compression, sealed in (
        ("sealed", None, True),
        ("zstd", "zstd", False),
        ("both", "zstd", True),
    ):
        stages: Any = pipeline_for(compression, sealed=sealed)  # type: ignore[arg-type]
        raw = payloads.payload(50 if name == "sealed" else 10_000)
        stored = stages.seal(raw, about)
        store, read = (
            payloads.best(work, 500)
            for work in (partial(stages.seal, raw, about), partial(opened, stored, about))
        )
        sizes = f"{len(raw):,} B become {len(stored):,} B"
        yield f"{name}: store, read", f"{store:.0f} µs, {read:.0f} µs; {sizes}"


async def session() -> AsyncIterator[int]:
    yield 1


def user(db: int = Depends(session)) -> int:
    return db


def resolution() -> Iterator[Figure]:
    """Yield what the dependencies of one attempt cost, without a handler and a queue."""
    app = StreamQ("bench", "redis://localhost:1")

    @app.task
    async def work(db: int = Depends(session), who: int = Depends(user)) -> None: ...

    plan, context = work.handler.plan, Context.__new__(Context)
    assert plan is not None

    async def resolved(number: int) -> float:
        began = time.perf_counter()
        for _ in range(number):
            given: dict[str, object] = {}
            [manager] = managers(plan, {}, context, given)
            async with manager:  # type: ignore[union-attr]
                pass
        return (time.perf_counter() - began) / number * 1e6

    asyncio.run(resolved(200))
    each = min(asyncio.run(resolved(1000)) for _ in range(15))
    yield "dependencies of an attempt: an async session, and a function that needs it", f"{each:.1f} µs"


async def drained(url: str, *, dependent: bool) -> float:
    """Return the seconds that a worker takes for a thousand attempts."""
    app, done = StreamQ("bench", url), asyncio.Event()
    left = ATTEMPTS

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    if dependent:

        @app.task(name="work")
        async def work(db: int = Depends(session)) -> None:
            assert db
            ended()
    else:

        @app.task(name="work")
        async def plain() -> None:
            ended()

    app.enqueue_many([app.bound("work", {}) for _ in range(ATTEMPTS)])
    worker = Worker(app, WorkerOptions(concurrency=100))
    began = time.perf_counter()
    running = asyncio.create_task(worker.run())
    await worker.ready.wait()
    began = time.perf_counter()
    await done.wait()
    took = time.perf_counter() - began
    worker.stop()
    await running
    await app.aclose()
    return took


def sessions(url: str) -> Iterator[Figure]:
    """Yield what a thousand attempts take with a session each, and without."""
    for dependent, name in ((False, "1,000 attempts"), (True, "1,000 attempts with a session each")):
        yield name, spread([1000 * asyncio.run(drained(url, dependent=dependent)) for _ in range(RUNS)], "ms")


def kit() -> Iterator[Figure]:
    """Yield what the test kit costs a test."""

    def start() -> None:
        with EmbeddedServer():
            pass

    yield "test kit: start and stop of a private server, once a test process", timed(start)
    app = StreamQ("bench", "redis://localhost:1")

    @app.task
    def work(n: int) -> int:
        return n

    def opened_queue() -> None:
        with Queue(app, server):
            pass

    with EmbeddedServer() as server:
        yield "test kit: open and close a queue", timed(opened_queue)
        with Queue(app, server) as queue:
            each: list[float] = []
            for _ in range(RUNS):
                for n in range(100):
                    work.enqueue(n)
                began = time.perf_counter()
                queue.run()
                each.append((time.perf_counter() - began) * 10)
        yield "test kit: a drained task", spread(each, "ms")


def timed(work: Callable[[], None]) -> str:
    """Return the median time of a call."""
    found: list[float] = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - began))
    return spread(found, "ms")


def spread(found: list[float], unit: str) -> str:
    """Return the median and the extremes."""
    return f"{statistics.median(found):,.3g} {unit} ({min(found):,.3g} to {max(found):,.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="the URL of a PostgreSQL, for the outbox")
    words = parser.parse_args()
    print("| what | measured |\n| --- | --- |")
    with EmbeddedServer() as server:
        for figures in (seals(), resolution(), sessions(server.url), kit()):
            for name, value in figures:
                print(f"| {name} | {value} |", flush=True)
        if words.database is None:
            sys.stderr.write("no --database: the outbox was not measured\n")
            return
        for name, value in outbox.figures(words.database, server.url):
            print(f"| outbox: {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
