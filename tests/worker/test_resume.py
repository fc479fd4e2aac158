"""Iteration with a cursor, on a live server: through exceptions, drains, SIGTERM and kills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_none

from streamq import StreamQ, WorkerOptions, get_context
from streamq.errors import UsageError
from streamq.keys import type_keys
from tests.conftest import command
from tests.running import clean, serving, tending, until, working
from tests.worker import handlers

ONE = WorkerOptions(concurrency=1, drain_timeout=20, block=0.5, heartbeat=0.2)


async def test_an_exception_stores_the_cursor_of_the_last_finished_row(app: StreamQ, url: str) -> None:
    done: list[int] = []

    def behind(cursor: int | None) -> Iterator[int]:
        return iter(range(0 if cursor is None else cursor + 1, 10))

    @app.task(max_attempts=3, backoff=wait_none())
    async def export() -> int:
        context = get_context()
        async for row in context.resume(behind, key=lambda row: row, every="1h"):
            if row == 4 and context.attempt < 3:
                raise ValueError
            done.append(row)
        return context.attempt

    async with serving(app, ONE):
        assert await (await export.aenqueue()).aresult(20) == 3
    assert done == list(range(10))
    assert command(url, "HLEN", type_keys("shop", 0, "export").steps) == 0
    clean(app)


async def test_rows_of_an_iterable_are_counted_also_async_and_in_threads(app: StreamQ) -> None:
    done: list[str] = []

    async def letters() -> AsyncIterator[str]:
        for one in "abcdef":
            yield one

    @app.task(max_attempts=2, backoff=wait_none())
    async def export() -> None:
        context = get_context()
        async for row in context.resume(["x", "y"]):
            done.append(row)
        async for row in context.resume(letters()):
            if row == "d" and context.attempt == 1:
                raise ValueError
            done.append(row)

    @app.task(max_attempts=2, backoff=wait_none())
    def threaded() -> None:
        context = get_context()
        for row in context.resume_sync(range(6), every=0):
            if row == 3 and context.attempt == 1:
                raise ValueError
            done.append(str(row))

    async with serving(app, ONE):
        await (await export.aenqueue()).aresult(20)
        await (await threaded.aenqueue()).aresult(20)
    assert done == [*"xyabcdef012345"]
    clean(app)


@pytest.mark.parametrize("how", ["async", "thread"])
async def test_a_worker_that_stops_hands_the_rest_to_another_uncounted(app: StreamQ, how: str) -> None:
    done: list[int] = []
    attempts: list[int] = []
    half = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(row: int) -> None:
        done.append(row)
        if row == 50:
            loop.call_soon_threadsafe(half.set)

    @app.task(max_attempts=1, timeout=60)
    async def export() -> None:
        attempts.append(get_context().attempt)
        async for row in get_context().resume(range(400), every="1h"):
            await asyncio.sleep(0.002)
            note(row)

    @app.task(max_attempts=1, timeout=60)
    def threaded() -> None:
        attempts.append(get_context().attempt)
        for row in get_context().resume_sync(range(400), every="1h"):
            import time

            time.sleep(0.002)
            note(row)

    handle = await (export if how == "async" else threaded).aenqueue()
    async with working(app, ONE):
        await asyncio.wait_for(half.wait(), 20)
        began = loop.time()
    assert loop.time() - began < 10, "a drain does not wait for the end of the loop"
    reached = len(done)
    assert 50 < reached < 400
    async with serving(app, ONE):
        await handle.aresult(30)
    assert done == list(range(400)), "each row once, in order"
    assert attempts == [1, 1]
    counters = app.inspector.type_stats(handle.id.partition(":")[0]).counters
    assert (counters["handed_back"], counters.get("retried", 0)) == (1, 0)
    clean(app)


async def test_sigterm_at_item_5_000_goes_on_at_5_001_elsewhere(url: str, tmp_path: Path) -> None:
    app, path = handlers.at(url), tmp_path / "rows"
    handle = await handlers.exports.aenqueue(str(path), stop_at=4_999)
    async with tending(app):
        for last in (False, True):
            process = await asyncio.create_subprocess_exec(
                "streamq", "worker", "tests.worker.handlers:app", "--url", url, "--types", "exports",
                "--concurrency", "1", "--processes", "1", "--drain-timeout", "30",
            )  # fmt: skip
            try:
                if last:
                    assert await handle.aresult(60) == 1
                else:
                    await until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 5_000)
            finally:
                process.terminate()
                await process.wait()
    assert path.read_text().split() == [str(n) for n in range(6_000)]
    counters = app.inspector.type_stats("exports").counters
    assert (counters.get("handed_back"), counters.get("retried", 0)) == (1, 0)
    clean(app)


async def test_a_killed_worker_repeats_no_more_than_was_not_stored(url: str, tmp_path: Path) -> None:
    app, path = handlers.at(url), tmp_path / "rows"
    handle = await handlers.exports.aenqueue(str(path), every=0.0, kill_at=300)
    async with tending(app):
        process = await asyncio.create_subprocess_exec(
            "streamq", "worker", "tests.worker.handlers:app", "--url", url, "--types", "exports",
            "--concurrency", "1", "--processes", "1",
        )  # fmt: skip
        try:
            assert await handle.aresult(60) == 1
        finally:
            process.terminate()
            await process.wait()
    rows = [int(row) for row in path.read_text().split()]
    assert rows == [*range(301), *range(300, 6_000)], "the row in which it died runs twice"
    clean(app)


async def test_mistakes_are_told(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def export() -> int:
        context = get_context()
        wrong: list[tuple[Any, Any]] = [(iter, None), ([1], len), (5, None)]
        for source, key in wrong:
            with pytest.raises(UsageError):
                async for _ in context.resume(source, key=key):
                    pass
        async for _ in context.resume([1], name="one"):
            pass
        with pytest.raises(UsageError, match="a second time"):
            async for _ in context.resume([1], name="one"):
                pass
        return 5

    async with serving(app, ONE):
        assert await (await export.aenqueue()).aresult(20) == 5
    clean(app)
