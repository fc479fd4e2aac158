"""The test kit: tasks that run in the test, time that it moves, workers that die on purpose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from streamq import Retry, StreamQ, UsageError, get_context
from streamq.embedded import EmbeddedServer
from streamq.testing import Queue

ELSEWHERE = "redis://nowhere.invalid:1/3"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    found = EmbeddedServer()
    found.start()
    yield found
    found.stop()


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", ELSEWHERE)


@pytest.fixture
def queue(app: StreamQ, server: EmbeddedServer) -> Iterator[Queue]:
    with Queue(app, server) as found:
        yield found


def test_tasks_run_in_the_tests_own_thread(app: StreamQ, queue: Queue) -> None:
    seen: list[int] = []

    @app.task
    def double(n: int) -> int:
        seen.append(threading.get_ident())
        assert asyncio._get_running_loop() is None  # a web framework's database calls ask
        return 2 * n

    handle = double.enqueue(4)
    [task] = queue.run()
    assert (task.id, task.type, task.state, task.attempts, task.result) == (
        handle.id,
        "double",
        "completed",
        1,
        8,
    )
    assert seen == [threading.get_ident()]
    assert handle.result(1) == 8
    assert app.inspector.audit().problems == []


def test_async_handlers_and_what_tasks_enqueue(app: StreamQ, queue: Queue) -> None:
    @app.task
    async def parent(n: int) -> None:
        for one in range(n):
            await child.aenqueue(one)

    @app.task(retention=0)
    def child(n: int) -> int:
        return n

    parent.enqueue(3)
    ended = queue.run()
    assert [task.type for task in ended] == ["parent", "child", "child", "child"]
    assert [task.result for task in ended[1:]] == [None] * 3  # not kept


async def test_in_an_event_loop(app: StreamQ, queue: Queue, loops_are_guarded: None) -> None:
    @app.task
    async def hello(name: str) -> str:
        return f"hello {name}"

    await hello.aenqueue("Ada")
    with pytest.raises(UsageError, match=r"write await queue.arun\(\)"):
        queue.run()
    [task] = await queue.arun()
    assert task.result == "hello Ada"


def test_retries_run_at_once_and_dead_letters_raise(app: StreamQ, queue: Queue) -> None:
    tries: list[int] = []

    @app.task(max_attempts=3)
    def flaky() -> str:
        tries.append(get_context().attempt)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return "done"

    @app.task(max_attempts=2)
    def broken() -> None:
        raise ValueError("for ever")

    flaky.enqueue()
    [task] = queue.run()
    assert (tries, task.attempts, task.result) == ([1, 2, 3], 3, "done")
    broken.enqueue()
    with pytest.raises(ValueError, match="for ever") as raised:
        queue.run()
    assert "a dead letter in attempt 2" in raised.value.__notes__[0]
    broken.enqueue()
    [dead] = queue.run(raise_errors=False)
    assert (dead.state, str(dead.error)) == ("dead", "for ever")


def test_time_passes_when_the_test_says_so(app: StreamQ, queue: Queue) -> None:
    log: list[str] = []

    @app.task
    def note(text: str) -> None:
        log.append(text)
        if text == "first":
            note.options(delay="10m").enqueue("of first")

    @app.task(max_attempts=2)
    def fails_once() -> None:
        log.append(f"attempt {get_context().attempt}")
        if get_context().attempt == 1:
            raise Retry(after="30m")

    note.options(delay="1h").enqueue("last")
    note.options(delay="5m").enqueue("first")
    fails_once.enqueue()
    assert queue.run(retries=False) == []
    assert log == ["attempt 1"]
    queue.advance("14m")
    assert log == ["attempt 1", "first"]
    queue.advance("2m")
    assert log == ["attempt 1", "first", "of first"]
    assert {round(left / 60) for left in queue.scheduled().values()} == {14, 44}
    queue.advance("1h")
    assert log == ["attempt 1", "first", "of first", "attempt 2", "last"]
    assert queue.scheduled() == {}


def test_a_worker_that_dies_shows_what_is_not_idempotent(app: StreamQ, queue: Queue) -> None:
    charged: list[str] = []

    @app.task
    def charge(order: str) -> None:
        charged.append(order)

    handle = charge.enqueue("A7")
    assert queue.lose("after_handler") == handle.id
    [task] = queue.run()
    assert (task.id, charged) == (handle.id, ["A7", "A7"])
    charge.enqueue("A8")
    queue.lose("before_handler")
    queue.run()
    assert charged == ["A7", "A7", "A8"]
    with pytest.raises(UsageError, match="no task is ready"):
        queue.lose()


def test_crashes_by_chance_lose_no_task(app: StreamQ, server: EmbeddedServer) -> None:
    with Queue(app, server, crash=0.4, seed=7) as queue:
        runs: list[int] = []

        @app.task
        def work(n: int) -> None:
            runs.append(n)

        app.enqueue_many([work.bind(n) for n in range(30)])
        ended = queue.run()
        assert len(ended) == 30
        assert all(task.state == "completed" for task in ended)
        assert len(runs) > 30
        assert app.inspector.audit().problems == []


def test_timeouts_cancellations_and_unreadable_tasks(app: StreamQ, queue: Queue) -> None:
    @app.task(timeout=0.05, max_attempts=1)
    async def slow() -> None:
        await asyncio.sleep(60)

    @app.task
    def never(n: int) -> None:
        raise AssertionError(n)

    slow.enqueue()
    [late] = queue.run(raise_errors=False)
    assert (late.state, type(late.error).__name__) == ("dead", "AttemptTimeout")
    never.enqueue(1).cancel()
    assert queue.run() == []
    app.send("never", {"n": 2}, expires=0.001)
    [expired] = queue.run()
    assert expired.state == "expired"


def test_the_app_returns_to_its_own_server(app: StreamQ, server: EmbeddedServer) -> None:
    @app.task
    def work() -> None: ...

    with Queue(app, server) as queue:
        work.enqueue()
        assert str(app.address).startswith("unix://")
        assert len(queue.run()) == 1
    assert str(app.address) == ELSEWHERE
    with pytest.raises(UsageError, match="not open"):
        queue.run()


def test_a_task_that_enqueues_itself_is_stopped(
    app: StreamQ, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamq.testing.queue.MOST", 50)

    @app.task
    def again() -> None:
        again.enqueue()

    again.enqueue()
    with pytest.raises(UsageError, match="does a task enqueue itself"):
        queue.run()


@pytest.mark.parametrize("share", [-0.1, 1, 2])
def test_a_share_of_crashes_is_checked(app: StreamQ, server: EmbeddedServer, share: float) -> None:
    with pytest.raises(UsageError, match="must be a share"):
        Queue(app, server, crash=share)


@pytest.mark.parametrize("is_async", [False, True])
def test_follow_ups_steps_sleeps_and_events_of_a_handler(app: StreamQ, queue: Queue, is_async: bool) -> None:
    made: list[str] = []

    def charge() -> str:
        made.append("charge")
        return "receipt"

    @app.task
    def mail(text: str) -> str:
        return f"sent {text}"

    async def on_loop() -> str:
        context = get_context()
        receipt: str = await context.step("charge", charge)
        context.progress(1, 2)
        if context.attempt == 1:
            raise ValueError
        await context.sleep("2d")
        await context.sleep("1h")
        context.enqueue(mail.bind(receipt))
        return receipt

    def plain() -> str:
        context = get_context()
        receipt: str = context.step_sync("charge", charge)
        context.progress(1, 2)
        if context.attempt == 1:
            raise ValueError
        context.sleep_sync("2d")
        context.sleep_sync("1h")
        context.enqueue(mail.bind(receipt))
        return receipt

    order: Any = app.task(name="order", max_attempts=2)(on_loop if is_async else plain)
    handle = order.enqueue()
    assert queue.run() == []
    assert (handle.status(), made) == ("scheduled", ["charge"])
    assert queue.advance("47h") == []
    ended = queue.advance("2h1m")
    assert [(one.type, one.state, one.result) for one in ended] == [
        ("order", "completed", "receipt"), ("mail", "completed", "sent receipt")
    ]  # fmt: skip
    assert made == ["charge"]
    assert {event.kind for event in handle.events()} == {"progress", "end"}
    assert app.inspector.audit().problems == []
