"""Steps and sleeps of handlers, on a live server."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from tenacity import wait_none

from streamq import LeaseLost, StreamQ, WorkerOptions, get_context, scripts
from streamq.embedded import EmbeddedServer
from streamq.errors import InvalidOption, PayloadError, TaskDead, UsageError
from streamq.keys import type_keys
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.running import clean, serving, until, working
from tests.worker import handlers

ONE = WorkerOptions(concurrency=1, drain_timeout=5, block=0.5, heartbeat=0.2)


def memos(app: StreamQ, url: str, task_type: str) -> int:
    found = command(url, "HLEN", type_keys(app.name, 0, task_type).steps)
    assert isinstance(found, int)
    return found


async def test_a_step_that_is_stored_is_not_made_again(app: StreamQ, url: str) -> None:
    made: list[str] = []

    async def charge(amount: int) -> datetime:
        made.append(f"charge {amount}")
        return datetime(2026, 1, 2, tzinfo=UTC)

    def ship(*, by: str) -> list[int]:
        made.append(f"ship {by}")
        return [1, 2]

    @app.task(max_attempts=4, backoff=wait_none())
    async def order() -> str:
        context = get_context()
        at = await context.step("charge", charge, 5)
        if context.attempt == 1:
            raise ValueError
        parcels = await context.step("ship", ship, by="air")
        if context.attempt == 2:
            raise ValueError
        assert memos(app, url, "order") == 3
        return f"{at.year} {parcels}"

    async with serving(app):
        assert await (await order.aenqueue()).aresult(20) == "2026 [1, 2]"
    assert made == ["charge 5", "ship air"]
    assert memos(app, url, "order") == 0
    clean(app)


async def test_a_first_attempt_reads_nothing_and_one_without_steps_is_settled_plainly(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamq import scripts

    loaded: list[str] = []
    load = scripts.load

    def noted(name: str) -> scripts.Script:
        loaded.append(name)
        return load(name)

    monkeypatch.setattr(scripts, "load", noted)

    @app.task(max_attempts=2, backoff=wait_none())
    async def order(steps: bool, fail: bool = False) -> None:
        if steps:
            await get_context().step("one", int)
        if fail and get_context().attempt == 1:
            raise ValueError

    async with serving(app):
        await (await order.aenqueue(steps=False)).aresult(20)
        assert "settle_rich" not in loaded
        assert "settle" in loaded
        await (await order.aenqueue(steps=True)).aresult(20)
        assert "memos" not in loaded
        assert {"checkpoint", "settle_rich"} <= set(loaded)
        await (await order.aenqueue(steps=True, fail=True)).aresult(20)
        assert loaded.count("memos") == 1
    clean(app)


async def test_in_threads_and_child_processes(app: StreamQ, url: str, tmp_path: Any) -> None:
    made: list[int] = []

    @app.task(max_attempts=2, backoff=wait_none())
    def order() -> int:
        get_context().step_sync("one", made.append, 1)
        if get_context().attempt == 1:
            raise ValueError
        return 7

    async with serving(app):
        assert await (await order.aenqueue()).aresult(20) == 7
    assert made == [1]
    clean(app)
    there = handlers.at(url)
    async with serving(there, WorkerOptions(types=("steps",), concurrency=2, process_slots=1)):
        assert await (await handlers.steps.aenqueue(str(tmp_path / "made"))).aresult(30) == 3
    assert (tmp_path / "made").read_text() == "one two "
    assert memos(there, url, "steps") == 0
    clean(there)


async def test_a_killed_child_keeps_what_it_stored(url: str, tmp_path: Any) -> None:
    app = handlers.at(url)
    async with serving(app, WorkerOptions(types=("dies_between",), concurrency=2, process_slots=1)):
        assert await (await handlers.dies_between.aenqueue(str(tmp_path / "made"))).aresult(30) == 2
    assert (tmp_path / "made").read_text() == "one two "
    assert memos(app, url, "dies_between") == 0
    clean(app)


async def test_a_worker_that_lost_the_task_stores_nothing(app: StreamQ, url: str) -> None:
    met: list[BaseException] = []
    keys = type_keys("shop", 0, "order")

    @app.task(max_attempts=1)
    async def order() -> None:
        try:
            await get_context().step("one", steal)
        except (LeaseLost, asyncio.CancelledError) as lost:  # or the renewal of its lease finds out first
            met.append(lost)
            raise

    def steal() -> int:
        # What a daemon does for a worker that is silent: the task becomes another entry.
        found: Any = command(url, "XPENDING", keys.normal, "workers", "-", "+", 1)
        [[entry, *_]] = found
        command(url, "XACK", keys.normal, "workers", entry)
        command(url, "XDEL", keys.normal, entry)
        return 1

    async with serving(app):
        await order.aenqueue()
        await until(lambda: bool(met))
    if isinstance(met[0], LeaseLost):
        assert "no longer holds the task" in str(met[0])
    assert memos(app, url, "order") == 0


@pytest.mark.parametrize("how", ["dead", "cancelled", "purged"])
async def test_every_end_deletes_memos_but_that_as_a_dead_letter(app: StreamQ, url: str, how: str) -> None:
    started = asyncio.Event()

    @app.task(max_attempts=1)
    async def order() -> None:
        await get_context().step("one", int)
        started.set()
        if how == "cancelled":
            await asyncio.sleep(60)
        raise ValueError

    async with serving(app):
        handle = await order.aenqueue()
        await asyncio.wait_for(started.wait(), 20)
        if how == "cancelled":
            await handle.acancel()
            await until(lambda: handle.status() == "cancelled")
        else:
            with pytest.raises(TaskDead):
                await handle.aresult(20)
        kept = 0 if how == "cancelled" else 2
        assert memos(app, url, "order") == kept
        clean(app)
        if how == "purged":
            await asyncio.to_thread(app.admin.purge, [handle.id])
            assert memos(app, url, "order") == 0
        elif kept:
            await asyncio.to_thread(app.admin.requeue, [handle.id])
            await until(lambda: app.inspector.type_stats("order").dead == 1)
            assert memos(app, url, "order") == kept
    clean(app)


async def test_mistakes_are_told_in_the_line_that_makes_them(app: StreamQ) -> None:
    said: list[str] = []

    @app.task(max_attempts=1)
    async def order() -> None:
        context = get_context()
        await context.step("one", int)
        for wrong, name, call in [
            (UsageError, "one", int), (InvalidOption, "", int), (InvalidOption, "x" * 201, int),
            (UsageError, "two", 5), (PayloadError, "three", lambda: "x" * 300_000),
            (PayloadError, "four", object),
        ]:  # fmt: skip
            with pytest.raises(wrong) as raised:
                await context.step(name, call)  # type: ignore[call-overload]
            said.append(str(raised.value))

    async with serving(app):
        await (await order.aenqueue()).aresult(20)
    assert "used a second time in this attempt" in said[0]
    clean(app)


async def test_a_task_that_sleeps_takes_no_slot_and_counts_no_attempt(app: StreamQ, url: str) -> None:
    began: list[int] = []

    @app.task(max_attempts=1)
    async def order() -> int:
        began.append(get_context().attempt)
        await get_context().step("one", began.append, -1)
        try:
            await get_context().sleep(1.2)
        except Exception:
            began.append(-2)
        await get_context().sleep("200ms", name="again")
        return len(began)

    options = WorkerOptions(concurrency=1, drain_timeout=5, block=0.5, heartbeat=0.2)
    async with serving(app, options) as worker:
        at = time.monotonic()
        handle = await order.aenqueue()
        await until(lambda: handle.status() == "scheduled")
        assert worker.parts.runner.idle
        assert await handle.aresult(20) == 4
        assert time.monotonic() - at > 1.3
    assert began == [1, -1, 1, 1]
    counters = app.inspector.type_stats("order").counters
    assert (counters["handed_back"], counters.get("retried", 0), counters["completed"]) == (2, 0, 1)
    assert memos(app, url, "order") == 0
    clean(app)


async def test_a_sleep_in_a_thread_and_a_sleeper_that_is_cancelled(app: StreamQ, url: str) -> None:
    @app.task(max_attempts=1)
    def order(seconds: float) -> int:
        get_context().sleep_sync(seconds)
        return get_context().attempt

    async with serving(app):
        assert await (await order.aenqueue(0.3)).aresult(20) == 1
        other = await order.aenqueue(600)
        await until(lambda: other.status() == "scheduled")
        assert memos(app, url, "order") == 2
        assert await other.acancel() == "cancelled"
        assert memos(app, url, "order") == 0
    clean(app)


async def test_the_audit_finds_and_deletes_memos_without_a_task(app: StreamQ, url: str) -> None:
    @app.task
    async def order() -> None: ...

    await order.aenqueue()
    keys = type_keys("shop", 0, "order")
    command(url, "HSET", keys.steps, "n1-1", "5\0one", "n1-1\0one", "12345", "n2-2\0two", "1")
    audit = app.inspector.audit()
    assert {(one.code, one.where) for one in audit.problems} == {
        ("orphaned_memo", "n1-1"), ("orphaned_memo", "n1-1\0one"), ("orphaned_memo", "n2-2\0two"),
    }  # fmt: skip
    await asyncio.to_thread(app.admin.repair)
    assert memos(app, url, "order") == 0
    clean(app)


async def test_a_memo_whose_reply_is_lost_is_stored_once_and_the_call_made_once(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)
    made: list[int] = []

    def charge() -> int:
        made.append(1)
        proxy.lose_reply_to(scripts.load("checkpoint").sha.encode())
        return len(made)

    @app.task(lease=60, max_attempts=1)
    async def order() -> int:
        found: int = await get_context().step("charge", charge)
        return found

    async with working(app, ONE):
        handle = await direct.asend("order", {})
        assert await handle.aresult(20) == 1
    assert made == [1]
    clean(direct)
