"""A worker inside another program's event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import structlog

from streamq import InvalidOption, LifespanFailed, StreamQ, TaskDead, UsageError
from streamq.telemetry import logs
from tests.running import clean, until


async def test_it_takes_tasks_in_the_block_and_has_drained_after_it(url: str) -> None:
    app, began = StreamQ("shop", url), asyncio.Event()

    @app.task
    async def slow() -> str:
        began.set()
        await asyncio.sleep(0.2)
        return "done"

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with app.run_worker(concurrency=3, types=["slow"]) as worker:
        assert worker.options.concurrency == 3
        handle = await slow.aenqueue()
        await began.wait()
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert await handle.aresult(1) == "done"
    assert app.inspector.workers() == []
    clean(app)


async def test_a_program_that_configures_no_logging_reads_only_warnings_and_errors(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr: what it prints itself may be for a program."""
    app = StreamQ("shop", url)
    monkeypatch.setattr(logs, "_SETTINGS", [])
    monkeypatch.setattr(structlog, "is_configured", lambda: False)

    @app.task(max_attempts=1)
    async def work(n: int) -> float:
        return 1 / n

    async with app.run_worker():
        assert await (await work.aenqueue(1)).aresult(10) == 1
        with pytest.raises(TaskDead):
            await (await work.aenqueue(0)).aresult(10)
    told, errors = capsys.readouterr()
    assert not told
    assert "task.dead" in errors
    assert not [word for word in ("debug", "info") if f"[{word}" in errors]
    clean(app)


async def test_an_exception_in_the_block_drains_the_worker_and_passes(url: str) -> None:
    app, began = StreamQ("shop", url), asyncio.Event()

    @app.task
    async def slow() -> str:
        began.set()
        await asyncio.sleep(0.2)
        return "done"

    with pytest.raises(LookupError, match="mine"):  # noqa: PT012 - the block is what is tested
        async with app.run_worker():
            handle = await slow.aenqueue()
            await began.wait()
            raise LookupError("mine")
    assert await handle.aresult(1) == "done"


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_it_drains_and_cancelled_again_it_hands_back(url: str, times: int) -> None:
    app, began, go = StreamQ("shop", url), asyncio.Event(), asyncio.Event()

    @app.task
    async def slow() -> str:
        began.set()
        await go.wait()
        return "done"

    async def program() -> None:
        async with app.run_worker():
            await slow.aenqueue()
            await asyncio.sleep(600)

    running = asyncio.create_task(program())
    await began.wait()
    running.cancel()
    await until(lambda: any(task.get_name() == "streamq-worker" for task in asyncio.all_tasks()))
    if times == 1:
        go.set()
    else:
        await asyncio.sleep(0.05)
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)
    counters = app.inspector.type_stats("slow").counters
    assert (counters["completed"], counters["handed_back"]) == ((1, 0) if times == 1 else (0, 1))
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "streamq-worker"]
    clean(app)


async def test_what_fails_at_the_start_is_raised_where_the_block_begins(url: str) -> None:
    app = StreamQ("shop", url)
    with pytest.raises(UsageError, match="has no task types"):
        async with app.run_worker():
            raise AssertionError
    with pytest.raises(InvalidOption, match="concurrency"):
        app.run_worker(concurrency=0)

    @app.task
    async def work() -> None: ...

    @app.lifespan
    async def fails(app: StreamQ) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(LifespanFailed, match="no database"):
        async with app.run_worker():
            raise AssertionError


async def test_a_worker_that_an_operator_drains_leaves_the_block_running(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work() -> None: ...

    async with app.run_worker() as worker:
        worker.stop()
        await until(lambda: not [one for one in asyncio.all_tasks() if one.get_name() == "streamq-worker"])
    clean(app)
