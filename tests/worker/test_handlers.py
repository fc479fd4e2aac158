"""Handlers of every kind in a worker in this process: their arguments, their context, their process."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID, uuid4

import pydantic
import pytest

from streamq import Context, StreamQ, TaskDead, WorkerOptions, get_context
from tests.running import clean, serving, working


class Colour(Enum):
    RED = "red"


@dataclass
class Address:
    street: str
    since: datetime


class Model(pydantic.BaseModel):
    amount: Decimal
    address: dict[str, int]


async def test_arguments_arrive_as_annotated(app: StreamQ) -> None:
    seen: list[object] = []

    @app.task
    async def handle(
        when: datetime,
        uid: UUID,
        price: Decimal,
        colour: Colour,
        home: Address,
        model: Model,
        *rest: int,
        flag: bool = True,
    ) -> Address:
        seen.extend((when, uid, price, colour, home, model, rest, flag))
        return home

    now, uid = datetime.now(UTC), uuid4()
    home, model = Address("Main", now), Model(amount=Decimal("1.50"), address={"a": 1})
    async with serving(app):
        handle_ = await handle.aenqueue(now, uid, Decimal("9.99"), Colour.RED, home, model, 7, 8, flag=False)
        assert await handle_.aresult(5) == home
    assert seen == [now, uid, Decimal("9.99"), Colour.RED, home, model, (7, 8), False]


async def test_sync_and_async_handlers_clients_and_names(app: StreamQ) -> None:
    @app.task
    async def on_loop(x: int) -> int:
        return x + 1

    @app.task
    def in_thread(x: int) -> str:
        return f"{x} {threading.current_thread().name.startswith('streamq-task')}"

    async with serving(app):
        first = await asyncio.to_thread(on_loop.enqueue, 1)
        second = await in_thread.aenqueue(2)
        third = await app.asend("on_loop", {"x": 3})
        fourth = await asyncio.to_thread(app.send, "in_thread", {"x": 4})
        assert await asyncio.to_thread(first.result, 5) == 2
        assert await second.aresult(5) == "2 True"
        assert await third.aresult(5) == 4
        assert await fourth.aresult(5) == "4 True"
        assert await on_loop(10) == 11  # a plain call runs here
    clean(app)


async def test_context_variables_do_not_leak_into_the_next_task(app: StreamQ) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    @app.task
    async def soils() -> None:
        seen.append(variable.get())
        variable.set("dirty")

    async with working(app, WorkerOptions(concurrency=1, block=0.3)):
        for _ in range(3):
            await (await soils.aenqueue()).aresult(5)
    assert seen == ["clean"] * 3


async def test_the_context_tells_about_the_attempt(app: StreamQ) -> None:
    found: list[Context] = []

    @app.task(timeout=10, max_attempts=4)
    def look() -> None:
        found.append(get_context())
        get_context().logger.info("looked")

    before = datetime.now(UTC) - timedelta(seconds=1)
    async with serving(app) as worker:
        handle = await look.options(delay=0.05).aenqueue()
        await handle.aresult(5)
        [context] = found
        assert (context.id, context.type, context.attempt, context.max_attempts) == (handle.id, "look", 1, 4)
        assert context.worker == worker.name
        assert before < context.enqueued_at < datetime.now(UTC) + timedelta(seconds=1)
        assert context.deadline is not None
        assert timedelta(seconds=5) < context.deadline - datetime.now(UTC) < timedelta(seconds=11)
    with pytest.raises(LookupError, match="outside a running task"):
        get_context()


async def test_a_process_handler_runs_elsewhere_and_its_death_is_a_failed_attempt(app: StreamQ) -> None:
    from tests.worker import handlers

    remote = handlers.at(str(app.address))
    async with serving(remote):
        pid, attempt = await (await handlers.where.aenqueue()).aresult(20)
        assert pid != __import__("os").getpid()
        assert attempt == 1
        handle = await handlers.dies.aenqueue()
        with pytest.raises(TaskDead, match=r"ProcessDied: .*killed by signal 9"):
            await handle.aresult(20)
        handle = await handlers.fails.aenqueue("boom")
        with pytest.raises(TaskDead, match="RuntimeError: boom"):
            await handle.aresult(20)
    clean(remote)


async def test_the_import_of_the_app_is_no_part_of_an_attempt_in_a_process(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the chaos runs: the timeout struck before the handler was called, in each new process."""
    from tests.worker import handlers

    monkeypatch.setenv("SLOW_IMPORT", "1")
    remote = handlers.at(str(app.address))
    async with serving(remote):
        await (await handlers.hurries.aenqueue()).aresult(20)
    assert remote.inspector.type_stats("hurries").counters["started"] == 1
    clean(remote)


async def test_a_type_without_a_handler_here_waits_for_a_worker_that_has_one(app: StreamQ) -> None:
    @app.task
    async def known() -> int:
        return 1

    other = StreamQ("shop", str(app.address))

    @other.task
    async def elsewhere() -> int:
        return 2

    waiting = await app.asend("elsewhere", {})
    async with serving(app):
        assert await (await known.aenqueue()).aresult(5) == 1
        assert await waiting.astatus() == "ready"
    async with serving(other):
        assert await waiting.aresult(5) == 2


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_traceback_begins_in_the_users_code(app: StreamQ, kind: str) -> None:
    async def on_loop() -> None:
        raise ValueError("here")

    def in_thread() -> None:
        raise ValueError("here")

    task = app.task(name="fails", max_attempts=1)(on_loop if kind == "async" else in_thread)
    async with serving(app):
        handle = await task.aenqueue()
        with pytest.raises(TaskDead):
            await handle.aresult(5)
    [failure] = app.inspector.task(handle.id).failures
    assert "test_handlers.py" in failure["traceback"].splitlines()[1]
    assert "ValueError: here" in failure["traceback"]
