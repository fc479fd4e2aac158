"""The lifespan of an app: in a worker, in its child processes, in a group, and in the test kit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from streamq import (
    Depends,
    LifespanFailed,
    StreamQ,
    UsageError,
    Worker,
    WorkerOptions,
    get_context,
)
from streamq.testing import Queue
from tests.resources import shop
from tests.running import OPTIONS, begun, clean, until, wait_until, working


async def test_a_worker_opens_it_once_before_its_tasks_and_closes_it_after_the_drain(url: str) -> None:
    seen: list[str] = []
    app = StreamQ("shop", url)

    @app.lifespan
    async def pool(found: StreamQ) -> AsyncIterator[str]:
        assert found is app
        seen.append("open")
        yield "pool"
        seen.append("close")

    @app.task
    async def slow(value: str = Depends(pool)) -> str:
        seen.append("begin")
        await asyncio.sleep(0.2)
        seen.append("end")
        return f"{value} {get_context().state} {pool.state}"

    @app.task
    def threaded() -> str:
        return str(get_context().state)

    async with working(app):
        assert await (await threaded.aenqueue()).aresult(10) == "pool"
        handle = await slow.aenqueue()
        await until(lambda: "begin" in seen)
    assert await handle.aresult(10) == "pool pool pool"
    assert seen == ["open", "begin", "end", "close"]
    clean(app)


async def test_without_a_lifespan_there_is_no_state_and_no_task_for_it(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work() -> str:
        try:
            return str(get_context().state)
        except LookupError as error:
            return str(error)

    async with working(app) as worker:
        told = await (await work.aenqueue()).aresult(10)
        assert told == "the app has no lifespan: declare one with @app.lifespan"
        assert worker._config.opened.task is None
        assert not work.handler.is_wrapped


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("raise", "ConnectionError: no database"),
        ("never", "ended without a yield"),
        ("exit", "SystemExit: 3"),
    ],
)
async def test_a_start_that_fails_is_one_clear_line(url: str, how: str, told: str) -> None:
    app = StreamQ("shop", url)

    @app.lifespan
    async def pool(app: StreamQ) -> AsyncIterator[None]:
        if how == "raise":
            raise ConnectionError("no\n  database")
        if how == "exit":
            sys.exit(3)
        if how == "always":
            yield

    @app.task
    async def work() -> None: ...

    with pytest.raises(LifespanFailed, match=told) as failed:
        await Worker(app).run()
    assert "\n" not in str(failed.value)
    assert "test_lifespan.test_a_start" in str(failed.value)


@pytest.mark.parametrize(
    ("how", "event", "told"),
    [
        ("twice", "lifespan.failed", "it yields twice"),
        ("raise", "lifespan.failed", "OSError: broken"),
        ("hang", "lifespan.timeout", "raise lifespan_timeout"),
    ],
)
async def test_an_end_that_fails_is_told_and_does_not_hold_the_worker(
    url: str, how: str, event: str, told: str
) -> None:
    app = StreamQ("shop", url)

    @app.lifespan
    @asynccontextmanager
    async def pool(app: StreamQ) -> AsyncIterator[None]:
        yield
        if how == "hang":
            await asyncio.sleep(600)
        if how == "raise":
            raise OSError("broken")
        yield

    @app.task
    async def work() -> int:
        return 1

    with structlog.testing.capture_logs() as lines:
        async with working(app, WorkerOptions(block=0.5, heartbeat=0.2, lifespan_timeout=0.2)):
            assert await (await work.aenqueue()).aresult(10) == 1
    [line] = [line for line in lines if line["event"].startswith("lifespan.")]
    assert line["event"] == event
    assert told in str(line)
    clean(app)


async def test_a_stop_during_the_start_ends_it(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    @app.lifespan
    async def pool(app: StreamQ) -> AsyncIterator[None]:
        try:
            seen.append("waits")
            await asyncio.sleep(600)
            yield
        finally:
            seen.append("closed")

    @app.task
    async def work() -> None: ...

    worker = Worker(app)
    running = asyncio.create_task(worker.run())
    await until(lambda: seen == ["waits"])
    worker.stop()
    await asyncio.wait_for(running, 10)
    assert seen == ["waits", "closed"]


async def test_a_cancelled_worker_closes_it(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    @app.lifespan
    async def pool(app: StreamQ) -> AsyncIterator[None]:
        async with asyncio.TaskGroup():  # must be left by the task that entered it
            yield
        seen.append("closed")

    @app.task
    async def work() -> None: ...

    task = await begun(Worker(app, OPTIONS))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["closed"]


async def test_a_lifespan_that_breaks_stops_its_worker(url: str) -> None:
    app = StreamQ("shop", url)
    fail = asyncio.Event()

    async def background() -> None:
        await fail.wait()
        raise ConnectionError("lost the feed")

    @app.lifespan
    async def feed(app: StreamQ) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(background())
            yield

    @app.task
    async def work() -> None: ...

    with structlog.testing.capture_logs() as lines:
        task = await begun(Worker(app, OPTIONS))
        fail.set()
        await asyncio.wait_for(task, 20)
    assert any(line["event"] == "lifespan.failed" for line in lines)


def wrong_functions() -> Iterator[tuple[Any, str]]:
    async def no_yield(app: StreamQ) -> None: ...

    def plain(app: StreamQ) -> Iterator[None]:
        yield

    async def alone() -> AsyncIterator[None]:
        yield

    async def two(app: StreamQ, settings: str) -> AsyncIterator[None]:
        yield

    @contextmanager
    def sync(app: StreamQ) -> Iterator[None]:
        yield

    class Pool:
        def __init__(self, app: StreamQ) -> None: ...
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    yield alone, r"alone is called with the app alone \(too many positional arguments\): write an `async def`"
    yield asynccontextmanager(alone), "alone is called with the app alone"
    yield two, "called with the app alone .*'settings'"
    yield sync, "sync is not async"
    yield Pool, "Pool is not async"
    yield no_yield, "is a coroutine without a yield"
    yield plain, "is not async"
    yield 7, "is no function"


@pytest.mark.parametrize(("wrong", "told"), list(wrong_functions()))
def test_what_cannot_be_a_lifespan_is_refused(wrong: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        StreamQ("shop").lifespan(wrong)


def test_an_app_has_one_lifespan() -> None:
    app = StreamQ("shop")

    @app.lifespan
    async def one(app: StreamQ) -> AsyncIterator[None]:
        yield

    with pytest.raises(UsageError, match=r"already has the lifespan .*\.one"):

        @app.lifespan
        async def two(app: StreamQ) -> AsyncIterator[None]:
            yield


def test_the_test_kit_runs_it_around_its_runs(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    @app.lifespan
    async def pool(app: StreamQ) -> AsyncIterator[asyncio.AbstractEventLoop]:
        seen.append("open")
        yield asyncio.get_running_loop()
        seen.append("close")

    @app.task
    async def work() -> bool:
        return get_context().state is asyncio.get_running_loop()

    @app.task
    def plain() -> bool:
        return bool(get_context().state.is_running())

    with Queue(app) as queue:
        work.enqueue()
        work.enqueue()
        plain.enqueue()
        assert [task.result for task in queue.run()] == [True, True, True]
        assert seen == ["open", "close"]


async def test_the_test_kit_runs_it_in_the_loop_of_the_test(url: str) -> None:
    app = StreamQ("shop", url)

    @app.lifespan
    async def pool(app: StreamQ) -> AsyncIterator[asyncio.AbstractEventLoop]:
        yield asyncio.get_running_loop()

    @app.task
    async def work() -> bool:
        return get_context().state is asyncio.get_running_loop()

    with Queue(app) as queue:
        await work.aenqueue()
        assert [task.result for task in await queue.arun()] == [True]


# -- processes ---------------------------------------------------------------------------------------------


def start(url: str, notes: Path, *options: str, fail: str = "") -> subprocess.Popen[str]:
    environment = {
        **os.environ, "STREAMQ_URL": url, "STREAMQ_TEST_NOTES": str(notes), "STREAMQ_TEST_FAIL": fail,
    }  # fmt: skip
    command = [sys.executable, "-m", "streamq", "worker", "tests.resources.shop:app", *options]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def noted(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


@pytest.mark.parametrize(("fail", "told"), [("start", "ConnectionError: no database"), ("never", "yield")])
def test_a_group_gives_up_with_78_and_no_restart(url: str, tmp_path: Path, fail: str, told: str) -> None:
    group = start(url, tmp_path / "notes", fail=fail)
    _, errors = group.communicate(timeout=60)
    assert group.returncode == 78
    assert [line for line in errors.splitlines() if told in line and "tests.resources.shop.pool" in line]
    assert len(noted(tmp_path / "notes")) == 1


def test_it_is_open_in_each_process_and_in_each_child(url: str, tmp_path: Path) -> None:
    notes, app = tmp_path / "notes", StreamQ("shop", url)
    group = start(url, notes, "--process-slots", "1")
    try:
        pid, state = app.send("where").result(60)
        assert pid == state
        word, db, child, its_state = app.send("inside", {"word": "a"}).result(60)
        assert (word, db, child) == ("a", f"session on connection of {child}", its_state)
        assert int(child) != pid
        again = app.send("inside", {"word": "b"}).result(60)
        assert again[2] == child
        assert [line for line in noted(notes) if line.startswith("open")] == [
            f"open shop {pid}", f"open shop {child}",
        ]  # fmt: skip
        assert sorted(line for line in noted(notes) if line.endswith(str(child)))[:2] == [
            f"begin {child}", f"begin {child}",
        ]  # fmt: skip
        wait_until(lambda: noted(notes).count(f"commit {child}") == 2)
        group.send_signal(signal.SIGTERM)
        assert group.wait(60) == 0
        assert [line for line in noted(notes) if line.startswith("close")] == [
            f"close {child}", f"close {pid}",
        ]  # fmt: skip
    finally:
        group.kill()
        group.communicate()


def test_an_end_that_hangs_ends_within_its_time(url: str, tmp_path: Path) -> None:
    group, app = start(url, tmp_path / "n", "--lifespan-timeout", "0.3s", fail="hang"), StreamQ("shop", url)
    try:
        assert app.send("where").result(60)
        group.send_signal(signal.SIGTERM)
        _, errors = group.communicate(timeout=30)
        assert group.returncode == 0
        assert "lifespan.timeout" in errors
    finally:
        group.kill()
        group.communicate()


def test_the_module_can_be_imported() -> None:
    assert shop.app.registry.resources.modules == ("tests.resources.shop",)
