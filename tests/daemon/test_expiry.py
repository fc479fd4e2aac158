"""Tasks whose time is over end without a worker: ready, scheduled and waiting to be retried."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import QueueFull, Retry, StreamQ
from streamq.calls import question as question_calls
from streamq.errors import TaskExpired
from streamq.keys import type_keys
from tests.conftest import command
from tests.running import clean, serving, tending, until


def look(app: StreamQ, command_: str, *args: str | int | bytes) -> Any:
    """A command on the rows of the type `work`."""
    return command(str(app.address), command_, type_keys("shop", 0, "work").expiring, *args)


async def test_a_ready_task_expires_without_a_worker(app: StreamQ) -> None:
    @app.task(expires=0.2, max_backlog=3)
    async def work(n: int) -> int:
        return n

    handles = [await work.aenqueue(n) for n in range(2)]
    handles.append(await work.options(delay=0.01).aenqueue(2))
    with pytest.raises(QueueFull):
        await work.aenqueue(3)
    async with tending(app):
        for handle in handles:
            with pytest.raises(TaskExpired):
                await handle.aresult(10)
        await until(lambda: app.inspector.type_stats("work").counters.get("expired") == 3)
        await work.aenqueue(3)  # there is room again
    assert app.inspector.type_stats("work").counters.get("started", 0) == 0
    clean(app)


async def test_a_task_that_waits_to_be_retried_expires(app: StreamQ) -> None:
    @app.task(expires=0.5)
    async def work() -> None:
        raise Retry(after=3600)

    handle = await work.aenqueue()
    async with serving(app):
        await until(lambda: handle.status() == "scheduled")
        with pytest.raises(TaskExpired):
            await handle.aresult(10)
    clean(app)


async def test_a_running_task_is_its_workers_to_judge(app: StreamQ) -> None:
    release = asyncio.Event()

    @app.task(expires=0.3)
    async def work() -> int:
        await release.wait()
        return 1

    def row() -> float:
        return float(look(app, "ZRANGE", 0, 0, "WITHSCORES")[1])

    async with serving(app):
        handle = await work.aenqueue()
        await until(lambda: handle.status() == "running")
        before = row()
        await until(lambda: row() > before)  # a daemon has looked, and will again
        assert handle.status() == "running"
        release.set()
        assert await handle.aresult(10) == 1
    clean(app)


async def test_rows_go_with_their_tasks(app: StreamQ) -> None:
    """Nothing is kept of a task with a lifetime once it has ended, and nothing of one without."""

    @app.task(max_attempts=1)
    async def work(n: int) -> None:
        if n == 1:
            raise ValueError

    sizes = question_calls.sizes(type_keys("shop", 0, "work"))
    for n in (0, 1):
        await work.options(expires="1h").aenqueue(n)
    cancelled = await work.options(expires="1h").aenqueue(2)
    await work.aenqueue(3)
    assert app.inspector._transport.run(sizes).expiring == 3
    await cancelled.acancel()
    async with serving(app):
        await until(lambda: app.inspector.type_stats("work").counters.get("started") == 3)
        await until(lambda: app.inspector.type_stats("work").running == 0)
    assert app.inspector._transport.run(sizes).expiring == 0
    clean(app)


async def test_what_nobody_ends_is_told_by_the_audit(app: StreamQ) -> None:
    @app.task
    async def work() -> None: ...

    await work.options(expires=3600).aenqueue()
    look(app, "ZADD", 1, look(app, "ZRANGE", 0, 0)[0])
    assert "unended_expired" in [problem.code for problem in app.inspector.audit().problems]
