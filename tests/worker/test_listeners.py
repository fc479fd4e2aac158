"""Functions as hooks: around attempts and enqueue calls, and listeners of stored outcomes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from tenacity import wait_fixed

from streamq import Context, Enqueue, StreamQ, TaskDead, TaskEnded, UsageError
from streamq.testing import Queue
from streamq.worker import listeners
from tests.running import clean, serving, until, working

sentry_sdk: Any = pytest.importorskip("sentry_sdk")


async def test_functions_are_around_attempts_and_calls_in_their_order(url: str) -> None:
    app, seen = StreamQ("shop", url), list[str]()

    @app.task
    async def work() -> None:
        seen.append("work")

    @app.around_attempt  # also of the task types before it
    async def outer(context: Context) -> AsyncIterator[None]:
        seen.append(f"outer {context.type}")
        yield
        seen.append("outer ends")

    @app.around_attempt
    @contextmanager
    def inner(context: Context) -> Iterator[None]:
        seen.append("inner")
        yield
        seen.append("inner ends")

    @app.around_enqueue
    async def aloud(call: Enqueue) -> AsyncIterator[None]:
        seen.append(f"async {len(call.tasks)}")
        yield

    @app.around_enqueue
    def quiet(call: Enqueue) -> Iterator[None]:
        seen.append("any")
        yield

    async with working(app):
        handle = await work.aenqueue()
        await handle.aresult(10)
    assert seen == ["async 1", "any", "outer work", "inner", "work", "inner ends", "outer ends"]
    seen.clear()
    work.enqueue()
    assert seen == ["any"]


async def test_an_error_around_an_attempt_is_its_failure_and_before_a_call_refuses_it(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task(max_attempts=1)
    def work() -> None: ...

    @app.around_attempt
    def refuses(context: Context) -> Iterator[None]:
        raise PermissionError("not this one")
        yield

    async with working(app):
        with pytest.raises(TaskDead, match="PermissionError: not this one"):
            await (await work.aenqueue()).aresult(10)

    @app.around_enqueue
    def closed(call: Enqueue) -> Iterator[None]:
        raise PermissionError("closed")
        yield

    with pytest.raises(PermissionError, match="closed"):
        work.enqueue()
    clean(app)


async def test_listeners_are_told_of_stored_outcomes_in_order(url: str) -> None:
    app, seen = StreamQ("shop", url), list[tuple[Any, ...]]()
    loop = threading.get_ident()

    @app.on("dead", "retried")
    async def bad(ended: TaskEnded) -> None:
        await asyncio.sleep(0.01)
        assert threading.get_ident() == loop
        seen.append((ended.state, ended.type, ended.error, ended.message, ended.reason, ended.task.attempt))

    @app.on("completed")
    def good(ended: TaskEnded) -> None:
        assert threading.get_ident() != loop
        assert ended.seconds is not None
        assert ended.at_ms > 1_600_000_000_000
        seen.append((ended.state, ended.id))

    @app.task(max_attempts=2, backoff=wait_fixed(0))
    async def fails() -> None:
        raise ValueError("mine")

    @app.task
    async def works() -> None: ...

    async with serving(app):
        handle = await fails.aenqueue()
        with pytest.raises(TaskDead):
            await handle.aresult(20)
        await until(lambda: len(seen) == 2)
        done = await works.aenqueue()
        await done.aresult(10)
        await until(lambda: len(seen) == 3)
    assert seen == [
        ("retried", "fails", "ValueError", "mine", "", 1),
        ("dead", "fails", "ValueError", "mine", "attempts", 2),
        ("completed", done.id),
    ]
    clean(app)


async def test_a_listener_that_fails_is_logged_once_and_harms_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "LONGEST", 0.05)
    app, told = StreamQ("shop", url), list[str]()

    @app.on("completed")
    def raises(ended: TaskEnded) -> None:
        raise SystemExit("mine")

    @app.on("completed")
    async def hangs(ended: TaskEnded) -> None:
        await asyncio.sleep(60)

    @app.on("completed")
    def after(ended: TaskEnded) -> None:
        told.append(ended.id)

    @app.task
    async def work(n: int) -> int:
        return n

    with structlog.testing.capture_logs() as lines:
        async with working(app):
            handles = await app.aenqueue_many([work.bind(n) for n in range(5)])
            assert [await handle.aresult(10) for handle in handles] == [0, 1, 2, 3, 4]
            await until(lambda: len(told) == 5)
    assert sorted(told) == sorted(handle.id for handle in handles)
    failed = [line for line in lines if line["event"] == "hook.failed"]
    assert [line["error"] for line in failed] == ["SystemExit", "TimeoutError"]
    clean(app)


async def test_what_waits_is_told_when_the_worker_ends_and_no_more_is_kept_than_the_limit(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "MOST", 3)
    app, told, go = StreamQ("shop", url), list[str](), threading.Event()

    @app.on("completed")
    def slow(ended: TaskEnded) -> None:
        go.wait(20)
        told.append(ended.id)

    @app.task
    async def work() -> None: ...

    with structlog.testing.capture_logs() as lines:
        async with working(app):
            handles = await app.aenqueue_many([work.bind() for _ in range(10)])
            for handle in handles:
                await handle.aresult(10)
            await until(lambda: any(line["event"] == "hook.dropped" for line in lines))
            go.set()
    assert 3 <= len(told) <= 4
    clean(app)


def test_the_test_kit_tells_listeners_in_its_thread(url: str) -> None:
    app, seen = StreamQ("shop", url), list[tuple[str, int]]()

    @app.on("retried", "dead")
    def told(ended: TaskEnded) -> None:
        seen.append((ended.state, threading.get_ident()))

    @app.task(max_attempts=2)
    def fails() -> None:
        raise ValueError

    with Queue(app) as queue:
        fails.enqueue()
        queue.run(raise_errors=False)
    assert seen == [("retried", threading.get_ident()), ("dead", threading.get_ident())]


def test_wrong_functions_are_refused() -> None:
    app: Any = StreamQ("shop")

    def plain(context: Context) -> None: ...
    def yields(ended: TaskEnded) -> Iterator[None]:
        yield

    for decorate in (app.around_attempt, app.around_enqueue):
        with pytest.raises(UsageError, match="must be a generator function"):
            decorate(plain)
    with pytest.raises(UsageError, match="must be one of completed"):
        app.on("died")(plain)
    with pytest.raises(UsageError, match="must be a function without a yield"):
        app.on("dead")(yields)


async def test_without_listeners_there_are_none(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work() -> None: ...

    async with working(app) as worker:
        assert worker.parts.listeners is None
        assert worker.parts.observers.stored is None


async def test_the_pattern_for_sentry_tells_each_dead_task_once_with_its_own_scope(url: str) -> None:
    events: list[dict[str, Any]] = []

    class InMemory(sentry_sdk.transport.Transport):  # type: ignore[misc]
        def capture_envelope(self, envelope: Any) -> None:
            events.extend(item.payload.json for item in envelope.items if item.type == "event")

    sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=InMemory, default_integrations=False)
    app = StreamQ("shop", url)

    @app.around_attempt
    def sentry(context: Context) -> Iterator[None]:
        with sentry_sdk.isolation_scope() as scope:
            scope.set_tag("streamq.type", context.type)
            scope.set_context("streamq", {"task": context.id, "attempt": context.attempt})
            try:
                yield
            except Exception as error:
                if context.attempt >= context.max_attempts:
                    sentry_sdk.capture_exception(error)
                raise

    @app.task(max_attempts=2, backoff=wait_fixed(0))
    async def slow(order: str) -> None:
        sentry_sdk.set_tag("order", order)
        await asyncio.sleep(0.05)  # the scopes of both are open at the same time
        raise ValueError(order)

    @app.task(max_attempts=1)
    def plain(order: str) -> None:
        sentry_sdk.set_tag("order", order)
        raise LookupError(order)

    try:
        async with serving(app):
            handles = [
                await slow.aenqueue("A1"), await slow.aenqueue("A2"), await plain.aenqueue("A3"),
            ]  # fmt: skip
            for handle in handles:
                with pytest.raises(TaskDead):
                    await handle.aresult(20)
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
    found = {event["exception"]["values"][0]["value"]: event for event in events}
    assert len(events) == 3
    for handle, order, attempt in zip(handles, ("A1", "A2", "A3"), (2, 2, 1), strict=True):
        assert found[order]["tags"] == {"streamq.type": handle.id.partition(":")[0], "order": order}
        assert found[order]["contexts"]["streamq"] == {"task": handle.id, "attempt": attempt}
