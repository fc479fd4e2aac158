"""Is the queue idle: asked once, waited for, sync and async, of all types or of some."""

from __future__ import annotations

import asyncio
import time

import pytest

from streamq import Retry, StreamQ, UnknownTaskType
from streamq.errors import InvalidOption, RedisUnavailable
from tests.letters import all_dead
from tests.running import serving, tending, until


async def test_idle_is_nothing_ready_running_or_due(app: StreamQ) -> None:
    go = asyncio.Event()

    @app.task
    async def work() -> None:
        await go.wait()

    assert app.idle()
    handle = work.enqueue()
    assert not app.idle()  # ready
    assert not app.wait_idle(0.05)
    async with serving(app):
        await until(lambda: handle.status() == "running")
        assert not await app.aidle()
        assert not await app.await_idle("50ms")
        go.set()
        assert await app.await_idle(10)
        assert handle.status() == "completed"
        assert await asyncio.to_thread(app.wait_idle, 10)


async def test_what_is_due_later_counts_only_where_it_is_asked_for(app: StreamQ) -> None:
    @app.task
    async def later() -> None: ...

    later.options(delay="1h").enqueue()
    assert app.idle()
    assert not app.idle(scheduled=True)
    later.options(delay=0.001).enqueue()
    await asyncio.sleep(0.01)
    assert not app.idle()  # due, and no daemon there to say so


async def test_only_some_types(app: StreamQ) -> None:
    @app.task
    async def busy() -> None: ...
    @app.task
    async def calm() -> None: ...

    busy.enqueue()
    calm.options(delay=3600).enqueue()
    assert app.idle("calm")
    assert not await app.aidle(["calm", "busy"])
    with pytest.raises(UnknownTaskType, match="calmm"):
        app.idle("calmm")
    with pytest.raises(InvalidOption):
        app.wait_idle(1, types=["no:name"])


async def test_a_retry_and_a_chain_of_tasks_are_waited_for(app: StreamQ) -> None:
    """Each handler enqueues one of another type: no look from type to type may slip between them."""
    done: list[int] = []

    @app.task
    async def a(left: int) -> None:
        if left:
            await b.aenqueue(left - 1)
        done.append(left)

    @app.task(max_attempts=3)
    async def b(left: int) -> None:
        if left == 7 and 7 not in done:
            done.append(7)
            raise Retry(after=0.2)
        await a.aenqueue(left - 1)
        done.append(left)

    async with serving(app):
        await a.aenqueue(20)
        assert await app.await_idle(30, scheduled=True)
        assert 0 in done


async def test_an_outage_is_waited_out_to_the_deadline_but_not_at_the_beginning(app: StreamQ) -> None:
    away = StreamQ("shop", "unix:///nowhere.sock", patience=0)
    began = time.monotonic()
    with pytest.raises(RedisUnavailable):
        await away.await_idle(30)
    with pytest.raises(RedisUnavailable):
        away.wait_idle(30)
    assert time.monotonic() - began < 5


async def test_a_dead_letter_leaves_the_queue_idle(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def fails() -> None:
        raise ValueError

    async with serving(app):
        fails.enqueue()
        assert await app.await_idle(10)
    assert len(all_dead(app.inspector, "fails")) == 1
    async with tending(app):
        assert app.admin.requeue_type("fails") == 1
        assert not app.idle()
