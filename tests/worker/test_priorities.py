"""Which task is taken first."""

from __future__ import annotations

import asyncio
import time

from streamq import StreamQ, WorkerOptions
from tests.running import until, working


async def test_high_before_normal_before_low(app: StreamQ) -> None:
    order: list[str] = []

    @app.task
    async def note(name: str) -> None:
        order.append(name)

    for priority in ("low", "normal", "high"):
        app.enqueue_many([note.options(priority=priority).bind(priority) for _ in range(20)])
    async with working(app, WorkerOptions(concurrency=1, block=0.3)):
        await until(lambda: len(order) == 60)
    assert order == ["high"] * 20 + ["normal"] * 20 + ["low"] * 20


async def test_a_saturated_high_stream_does_not_starve_low(app: StreamQ) -> None:
    low = asyncio.Event()

    @app.task(retention=0)
    async def busy() -> None:
        await asyncio.sleep(0.001)

    @app.task
    async def patient() -> None:
        low.set()

    await patient.options(priority="low").aenqueue()
    async with working(app, WorkerOptions(concurrency=2, block=0.3, fairness=0.2)):
        deadline = time.monotonic() + 10
        while not low.is_set():
            assert time.monotonic() < deadline
            await app.aenqueue_many([busy.options(priority="high").bind() for _ in range(50)])
