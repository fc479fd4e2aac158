"""Waits for signals, on a live server: in every kind of handler, through kills, lost replies and outages."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest
from tenacity import wait_none

from streamq import StreamQ, WorkerOptions, get_context, scripts
from streamq.embedded import EmbeddedServer
from streamq.errors import InvalidOption, PayloadError, SignalTimeout, TaskDead, UsageError
from streamq.keys import type_keys
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.running import clean, serving, until, working
from tests.worker import handlers

ONE = WorkerOptions(concurrency=1, drain_timeout=5, block=0.5, heartbeat=0.2)


@dataclass
class Approval:
    by: str
    amount: int


async def test_a_task_waits_without_a_slot_and_goes_on_with_the_value(app: StreamQ, url: str) -> None:
    began: list[int] = []

    @app.task(max_attempts=1)
    async def order() -> str:
        began.append(get_context().attempt)
        approval: Approval = await get_context().wait("approved", Approval, timeout="7d")
        return f"{approval.by} {approval.amount}"

    async with serving(app, ONE) as worker:
        handle = await order.aenqueue()
        await until(lambda: handle.status() == "scheduled")
        assert worker.parts.runner.idle
        assert await handle.asignal("approved", {"by": "ada", "amount": 3}) == "delivered"
        assert await handle.aresult(20) == "ada 3"
    assert began == [1, 1]
    assert command(url, "HLEN", type_keys("shop", 0, "order").steps) == 0
    clean(app)


async def test_a_signal_before_the_wait_is_taken_at_once_and_each_once(app: StreamQ) -> None:
    began: list[int] = []

    @app.task(max_attempts=1)
    async def order() -> list[Any]:
        began.append(1)
        context = get_context()
        return [await context.wait("part"), await context.wait("part"), await context.wait("part")]

    handle = await order.aenqueue()
    assert await handle.asignal("part", 1) == "stored"
    assert await handle.asignal("part") == "stored"
    async with serving(app, ONE):
        await until(lambda: handle.status() == "scheduled")
        assert handle.signal("part", [3]) == "delivered"
        assert await handle.aresult(20) == [1, None, [3]]
    assert len(began) == 2
    clean(app)


async def test_a_timeout_is_an_error_that_the_handler_may_catch(app: StreamQ) -> None:
    @app.task(max_attempts=2, backoff=wait_none())
    async def order(catch: bool) -> str:
        try:
            await get_context().wait("approved", timeout="300ms")
        except SignalTimeout:
            if catch:
                return "late"
            raise
        return "approved"

    async with serving(app, ONE):
        at = time.monotonic()
        assert await (await order.aenqueue(catch=True)).aresult(20) == "late"
        assert time.monotonic() - at > 0.3
        other = await order.aenqueue(catch=False)
        with pytest.raises(TaskDead, match="SignalTimeout"):
            await other.aresult(20)
        assert await other.asignal("approved") == "too late"
    clean(app)


async def test_in_threads_and_child_processes(app: StreamQ, url: str) -> None:
    @app.task(max_attempts=1)
    def order() -> Any:
        return get_context().wait_sync("approved", timeout=60)

    async with serving(app, ONE):
        handle = await order.aenqueue()
        await until(lambda: handle.status() == "scheduled")
        assert handle.signal("approved", "yes") == "delivered"
        assert await handle.aresult(20) == "yes"
    clean(app)
    there = handlers.at(url)
    async with serving(there, WorkerOptions(types=("waits",), concurrency=2, process_slots=1)):
        handle = await handlers.waits.aenqueue()
        await until(lambda: handle.status() == "scheduled")
        assert handle.signal("approved", 7) == "delivered"
        assert await handle.aresult(30) == 7
    clean(there)


async def test_who_dies_with_a_signal_in_hand_leaves_it_to_the_next(app: StreamQ, url: str) -> None:
    met: list[Any] = []

    @app.task(max_attempts=3, backoff=wait_none())
    async def order() -> Any:
        met.append(await get_context().wait("approved"))
        if len(met) < 3:
            raise ValueError
        return await get_context().wait("approved", timeout=0)

    async with serving(app, ONE):
        handle = await order.aenqueue()
        for n in range(2):
            await handle.asignal("approved", n)
        assert await handle.aresult(20) == 1
    assert met == [0, 0, 0]
    clean(app)


async def test_a_signal_whose_reply_is_lost_is_given_once(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)

    @direct.task(max_attempts=1)
    async def order() -> list[Any]:
        first = await get_context().wait("part")
        try:
            return [first, await get_context().wait("part", timeout="200ms")]
        except SignalTimeout:
            return [first]

    for before in (True, False):
        handle = await order.aenqueue()
        async with serving(direct, ONE):
            if not before:
                await until(lambda h=handle: h.status() == "scheduled")  # type: ignore[misc]
            proxy.lose_reply_to(scripts.load("signal").sha.encode())
            await app.handle(handle.id).asignal("part", 5)
            assert await handle.aresult(20) == [5]
    clean(direct)


async def test_a_wait_whose_reply_is_lost_takes_one_signal(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)

    @app.task(lease=60, max_attempts=1)
    async def order() -> list[Any]:
        proxy.lose_reply_to(scripts.load("take_signal").sha.encode())
        return [await get_context().wait("part"), await get_context().wait("part")]

    handle = await direct.asend("order", {})
    for n in range(2):
        await handle.asignal("part", n)
    async with working(app, ONE):
        assert await handle.aresult(20) == [0, 1]
    clean(direct)


async def test_mistakes_are_told_in_the_line_that_makes_them(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def order() -> None:
        context = get_context()
        for wrong in ("", "x" * 101, "a\0b", 5):
            with pytest.raises(InvalidOption):
                await context.wait(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption):
            await context.wait("yes", timeout="soon")
        await context.step("wait no 1", int)
        with pytest.raises(UsageError, match="used a second time"):
            await context.wait("no")

    handle = await order.aenqueue()
    with pytest.raises(InvalidOption):
        await handle.asignal("")
    with pytest.raises(PayloadError, match="65,536"):
        await handle.asignal("yes", "x" * 70_000)
    with pytest.raises(PayloadError, match="the signal's value"):
        await handle.asignal("yes", object())
    assert await app.handle("order:0:n1-1").asignal("yes") == "unknown"
    async with serving(app, ONE):
        await handle.aresult(20)
        assert await handle.asignal("yes") == "too late"
    clean(app)


async def test_a_value_that_is_not_what_the_handler_waits_for_is_a_dead_letter(app: StreamQ) -> None:
    @app.task(max_attempts=5)
    async def order() -> int:
        return await get_context().wait("approved", int)

    handle = await order.aenqueue()
    await handle.asignal("approved", {"by": "ada"})
    async with serving(app, ONE):
        with pytest.raises(TaskDead, match="not what the handler waits for") as dead:
            await handle.aresult(20)
    assert dead.value.reason == "signal"
    clean(app)


async def test_operators_see_what_a_task_waits_for_and_run_now_ends_only_a_sleep(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def order(how: str) -> str:
        context = get_context()
        await context.step("charge", lambda: {"receipt": 7})
        if how == "sleeps":
            await context.sleep("1h")
        else:
            await context.wait("approved", timeout=None if how == "for ever" else "1h")
        return how

    async with serving(app, ONE):
        sleeper, waiter, ever = [await order.aenqueue(how) for how in ("sleeps", "waits", "for ever")]
        for one in (sleeper, waiter, ever):
            await until(lambda h=one: h.status() == "scheduled")  # type: ignore[misc]
        shown = [app.inspector.task(one.id) for one in (sleeper, waiter, ever)]
        suspended = [one.suspended for one in shown if one.suspended]
        words = [one.words for one in suspended]
        assert words == ["sleeps", *(2 * ["waits for the signal 'approved'"])]
        until_ms = [one.until_ms for one in suspended]
        assert until_ms[2] is None
        assert all(0 < at / 1000 - time.time() <= 3_600 for at in until_ms[:2] if at)
        assert shown[1].memos == {"charge": b'{"receipt":7}', "wait approved 1": b"null"}
        assert waiter.signal("other", 1) == "stored"
        assert app.inspector.task(waiter.id).mailbox == {"other": 1}
        assert app.admin.run_now(sleeper.id)
        assert await sleeper.aresult(20) == "sleeps"
        with pytest.raises(UsageError, match="waits for a signal"):
            app.admin.run_now(waiter.id)
        assert app.admin.acting_for("ada").signal(waiter.id, "approved") == "delivered"
        assert await waiter.aresult(20) == "waits"
        assert app.inspector.actions(1)[0].verb == "signal"
        assert ever.cancel() == "cancelled"
    clean(app)


async def test_the_audit_knows_a_mailbox_and_gives_one_without_end_a_lifetime(app: StreamQ, url: str) -> None:
    @app.task
    async def order() -> None: ...

    handle = await order.aenqueue()
    handle.signal("yes", 1)
    clean(app)
    mail = type_keys("shop", 0, "order").mail(handle.id.rpartition(":")[2])
    command(url, "PERSIST", mail)
    assert [one.code for one in app.inspector.audit().problems] == ["missing_lifetime"]
    await asyncio.to_thread(app.admin.repair)
    assert command(url, "PTTL", mail) not in (-1, -2)
    clean(app)
