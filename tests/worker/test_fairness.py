"""Who comes next: equal backlogs of different types, lone tasks beside them, and what was handed back."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest

from streamq import StreamQ, Worker, WorkerOptions
from streamq.keys import type_keys
from streamq.worker.fetch_order import FetchOrder
from tests.running import begun, clean, until, working


def _types(app: StreamQ, count: int, ran: list[str], seconds: float = 0.0) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for n in range(count):
        name = f"type{n:04d}"

        async def handler(*, name: str = name) -> None:
            ran.append(name)
            if seconds:
                await asyncio.sleep(seconds)

        types[name] = app.task(name=name, retention=0)(handler)
    return types


@pytest.mark.parametrize(("types", "concurrency"), [(12, 1), (12, 50), (30, 4), (300, 10)])
async def test_equal_backlogs_get_equal_starts(app: StreamQ, types: int, concurrency: int) -> None:
    ran: list[str] = []
    known = _types(app, types, ran)
    busy = ("type0000", f"type{types // 2:04d}")
    for name in busy:
        await app.aenqueue_many([known[name].bind() for _ in range(1000)])
    async with working(app, WorkerOptions(concurrency=concurrency, block=0.5)):
        await until(lambda: len(ran) >= 1200, limit=60)
        started = Counter(ran[:1200])
    assert abs(started[busy[0]] - started[busy[1]]) <= 120


async def test_a_lone_task_does_not_wait_for_a_backlog(app: StreamQ) -> None:
    """It waited for as many turns as there are types, of which most had nothing to do."""
    ran: list[str] = []
    known = _types(app, 30, ran, seconds=0.001)
    await app.aenqueue_many([known["type0007"].bind() for _ in range(3000)])
    async with working(app, WorkerOptions(concurrency=5, block=0.5)) as worker:
        await until(lambda: len(ran) >= 200)
        for n in (3, 8, 29):
            before = len(ran)
            name = f"type{n:04d}"
            await known[name].aenqueue()
            await until(partial(ran.__contains__, name))
            position = ran.index(name) - before
            assert position <= 400, "more than what the worker had fetched ahead went before it"
        assert len(ran) < 3000
        worker.stop()


def test_who_was_served_last_comes_last() -> None:
    order = FetchOrder([type_keys("shop", 0, name) for name in "abcd"], 1000, 0)

    def sequence() -> str:
        sources, _ = order.sources(10, dict.fromkeys("abcd", 10), 0)
        return "".join(source.keys.type for source in sources if source.letter == "n")

    order.served([("a", 1), ("c", 3)])
    assert sequence() == "bdac"
    order.served([("a", 2), ("b", 1), ("a", 1)])
    assert sequence() == "dcba"


async def test_what_was_handed_back_is_run_before_all_others(app: StreamQ) -> None:
    """A restart put what was fetched ahead behind the whole backlog."""
    release, ran = asyncio.Event(), list[int]()

    @app.task(retention=0)
    async def work(n: int) -> None:
        await release.wait()
        ran.append(n)

    @app.task(retention=0, priority="low")
    async def other(n: int) -> None:
        ran.append(n)

    worker = Worker(app, WorkerOptions(concurrency=1, drain_timeout=5, block=0.5))
    running = await begun(worker)
    await app.aenqueue_many([work.bind(n) for n in range(6)])
    await until(lambda: len(worker.parts.runner.running()) == 1)
    worker.parts.runner._prefetch.ahead = 5  # as if tasks had been short
    worker.parts.control.freed()
    await until(lambda: len(worker.parts.in_flight) == 6)
    await app.aenqueue_many([work.bind(n) for n in range(6, 10)])
    worker.stop()
    await until(lambda: len(worker.parts.in_flight) == 1)
    stats = app.inspector.type_stats("work")
    assert (stats.ready, stats.running, stats.suspect) == (9, 1, 0)
    clean(app)
    release.set()
    await running
    async with working(app, WorkerOptions(concurrency=1, block=0.5)):
        await until(lambda: len(ran) == 10)
    assert ran == list(range(10))
    counters = app.inspector.type_stats("work").counters
    assert (counters["started"], counters["handed_back"], counters["completed"]) == (10, 5, 10)
    clean(app)
