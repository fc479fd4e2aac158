"""Attempts that take too long, and handlers that will not end."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, cast

import pytest

from streamq import StreamQ, TaskDead, WorkerOptions, get_context
from tests.running import clean, serving, until, working


@pytest.mark.parametrize("kind", ["async", "stubborn", "thread", "process"])
async def test_an_attempt_ends_at_its_timeout(app: StreamQ, kind: str) -> None:
    release = threading.Event()

    async def on_loop() -> None:
        await asyncio.sleep(30)

    async def stubborn() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return "late"

    def in_thread() -> None:
        release.wait(30)
        assert get_context().cancelled

    from tests.worker import handlers

    app_, task = app, cast("Any", None)
    if kind == "process":
        app_ = handlers.at(str(app.address))
        task = handlers.sleeps.options(timeout=0.3, max_attempts=1)
    else:
        function = {"async": on_loop, "stubborn": stubborn, "thread": in_thread}[kind]
        task = app.task(name="slow", timeout=0.3, max_attempts=1)(function)
    async with serving(app_):
        began = time.monotonic()
        handle = await task.aenqueue()
        with pytest.raises(
            TaskDead, match="AttemptTimeout: the attempt ran longer than its timeout of 0.3 s"
        ):
            await handle.aresult(10)
        assert time.monotonic() - began < 15  # a process has imports of its own
        release.set()


async def test_a_handler_that_ignores_its_cancellation_is_written_off(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamq.worker import running_attempts

    monkeypatch.setattr(running_attempts, "GRACE", 0.2)
    over = asyncio.Event()

    @app.task(timeout=0.1, max_attempts=1)
    async def deaf() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    @app.task
    async def fine() -> int:
        return 1

    async with serving(app, WorkerOptions(concurrency=2, block=0.5)):
        handle = await deaf.aenqueue()
        with pytest.raises(TaskDead, match="AttemptTimeout"):
            await handle.aresult(5)
        assert await (await fine.aenqueue()).aresult(5) == 1
        over.set()
    clean(app)


async def test_a_worker_whose_slots_are_all_taken_by_deaf_handlers_stops(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor starts another: a handler that never returns must not make a worker deaf for ever."""
    from streamq.worker import running_attempts

    monkeypatch.setattr(running_attempts, "GRACE", 0.1)
    release = threading.Event()

    @app.task(timeout=0.1, max_attempts=1)
    def never() -> None:
        release.wait(20)

    async with working(app, WorkerOptions(concurrency=1, block=0.3, drain_timeout=0.1)) as worker:
        await never.aenqueue()
        await until(lambda: worker.worn_out)
        release.set()


async def test_a_blocked_loop_keeps_its_leases(app: StreamQ) -> None:
    """Guard: leases are renewed by a thread of their own."""

    @app.task(lease=1.5)
    async def blocks() -> int:
        time.sleep(5)  # noqa: ASYNC251 - that is the point
        return get_context().lost

    from streamq import Daemon
    from tests.running import QUICK

    daemon = Daemon(app.address, QUICK)
    thread = threading.Thread(target=lambda: asyncio.run(daemon.run()))
    thread.start()
    try:
        async with working(app):
            assert await (await blocks.aenqueue()).aresult(20) == 0
    finally:
        daemon._stop.set()
        thread.join()
    assert app.inspector.type_stats("blocks").counters.get("reclaimed", 0) == 0
