"""Hooks through a real queue and worker: their order, their exceptions, and that none loses a task."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from typing import Any

import pytest
import structlog
from tenacity import wait_fixed

from streamq import Context, Delivery, Enqueue, Hook, Outcome, StreamQ, TaskDead, UsageError, get_context
from streamq.errors import QueueFull
from streamq.hooks import name_of
from tests.running import clean, serving, until, working
from tests.worker import hooked


class Noted(Hook):
    """Notes everything that it is called for."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    @contextmanager
    def around_enqueue(self, call: Enqueue) -> Generator[None]:
        self.seen.append(f"{self.name} sends {len(call.tasks)} {call.task_type}")
        yield
        self.seen.append(f"{self.name} sent {len([one for one in call.ids if one])}")

    @contextmanager
    def around_delivery(self, task: Delivery, worker: str) -> Generator[None]:
        assert worker
        self.seen.append(f"{self.name} takes")
        yield
        self.seen.append(f"{self.name} took")

    @asynccontextmanager
    async def around_attempt(self, context: Context) -> AsyncGenerator[None]:
        assert get_context() is context
        self.seen.append(f"{self.name} calls")
        try:
            yield
        except BaseException as error:
            self.seen.append(f"{self.name} saw {type(error).__name__}")
            raise
        self.seen.append(f"{self.name} called")


class Observing(Hook):
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def attempt_began(self, task: Delivery, at_ms: int) -> None:
        assert at_ms > 1_600_000_000_000
        self.seen.append(("began", task.type, task.attempt))

    def attempt_failed(self, task: Delivery, error: str, message: str, traceback: str) -> None:
        self.seen.append(("failed", task.type, error, message, "raise " in traceback))

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        named = None if outcome is None else name_of(outcome)
        self.seen.append(("ended", task.type, named, seconds is not None and 0 <= seconds < 20))

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        self.seen.append(("stored", task.type, name_of(outcome)))


async def test_the_first_hook_is_the_outermost_on_both_sides(url: str) -> None:
    seen: list[str] = []
    app = StreamQ("shop", url, hooks=[Noted("a", seen), Noted("b", seen)])

    @app.task
    async def work() -> None:
        seen.append("work")

    async with working(app):
        await (await work.aenqueue()).aresult(10)
        sends = ["a sends 1 work", "b sends 1 work"]
        sent = ["b sent 1", "a sent 1"]
        runs = [
            "a takes", "b takes", "a calls", "b calls", "work", "b called", "a called", "b took", "a took",
        ]  # fmt: skip
        await until(lambda: len(seen) == 13, 20)
        assert [one for one in seen if one in sends + sent] == [*sends, *sent]
        assert [one for one in seen if one not in sends + sent] == runs
    seen.clear()
    app.enqueue_many([work.bind() for _ in range(3)])
    assert seen == ["a sends 3 work", "b sends 3 work", "b sent 3", "a sent 3"]


async def test_an_async_hook_is_around_async_calls_and_a_sync_one_around_both(url: str) -> None:
    seen: list[str] = []

    class Both(Hook):
        @contextmanager
        def around_enqueue(self, call: Enqueue) -> Generator[None]:
            seen.append("sync")
            yield

        @asynccontextmanager
        async def around_aenqueue(self, call: Enqueue) -> AsyncGenerator[None]:
            await asyncio.sleep(0)
            seen.append("async")
            yield

    class Sync(Hook):
        @contextmanager
        def around_enqueue(self, call: Enqueue) -> Generator[None]:
            seen.append("any")
            yield

    app = StreamQ("shop", url, hooks=[Both(), Sync()])

    @app.task
    async def work() -> None: ...

    work.enqueue()
    await work.aenqueue()
    await app.aenqueue_many([work.bind()])
    work.options(idempotency_key="1").enqueue()
    assert seen == ["sync", "any", "async", "any", "async", "any", "sync", "any"]


def test_a_hook_may_refuse_a_call_and_replace_its_tasks_but_not_their_number(url: str) -> None:
    class Policy(Hook):
        @contextmanager
        def around_enqueue(self, call: Enqueue) -> Generator[None]:
            if call.tasks[0].payload == b'{"n":1}':
                raise PermissionError("not today")
            if call.tasks[0].payload == b'{"n":2}':
                call.tasks = [task._replace(payload=b'{"n":20}') for task in call.tasks]
            if call.tasks[0].payload == b'{"n":3}':
                call.tasks = []
            yield

    app = StreamQ("shop", url, hooks=[Policy()])

    @app.task(max_backlog=3)
    def work(n: int) -> None: ...

    with pytest.raises(PermissionError, match="not today"):
        work.enqueue(1)
    assert app.inspector.task(work.enqueue(2).id).payload == b'{"n":20}'
    with pytest.raises(UsageError, match="changed the number of tasks from 1 to 0"):
        work.enqueue(3)
    assert [one.id for one in app.enqueue_many([work.bind(4), work.bind(5)])]
    with pytest.raises(QueueFull):
        work.enqueue(6)
    assert app.inspector.type_stats("work").counters["accepted"] == 3


def test_a_hook_cannot_hide_that_a_call_failed(url: str) -> None:
    class Hides(Hook):
        @contextmanager
        def around_enqueue(self, call: Enqueue) -> Generator[None]:
            try:
                yield
            except Exception:
                return

    app = StreamQ("shop", url, hooks=[Hides()])

    @app.task(max_backlog=1)
    def work() -> None: ...

    work.enqueue()
    with pytest.raises(QueueFull):
        work.enqueue()


async def test_what_a_hook_raises_around_a_handler_is_the_attempts_failure(url: str) -> None:
    class Fails(Hook):
        @asynccontextmanager
        async def around_attempt(self, context: Context) -> AsyncGenerator[None]:
            if context.attempt == 1:
                raise ConnectionError("before")
            yield
            if context.attempt == 2:
                raise ConnectionError("after")

    watch = Observing()
    app = StreamQ("shop", url, hooks=[Fails(), watch])
    ran: list[int] = []

    @app.task(max_attempts=3, backoff=wait_fixed(0))
    async def work() -> int:
        ran.append(get_context().attempt)
        return 7

    async with serving(app):
        handle = await work.aenqueue()
        assert await handle.aresult(20) == 7
    assert ran == [2, 3]
    assert [one[3] for one in watch.seen if one[0] == "failed"] == ["before", "after"]
    clean(app)


async def test_a_hook_cannot_hide_a_failure_nor_a_timeout(url: str) -> None:
    class Hides(Hook):
        @asynccontextmanager
        async def around_attempt(self, context: Context) -> AsyncGenerator[None]:
            try:
                yield
            except BaseException:
                return

    app = StreamQ("shop", url, hooks=[Hides()])

    @app.task(max_attempts=1)
    async def raises() -> None:
        raise ValueError("mine")

    @app.task(max_attempts=1)
    def raises_in_thread() -> None:
        raise ValueError("mine")

    @app.task(max_attempts=1, timeout=0.1)
    async def hangs() -> None:
        await asyncio.sleep(60)

    async with working(app):
        for task, error in ((raises, "ValueError: mine"), (raises_in_thread, "ValueError: mine")):
            with pytest.raises(TaskDead, match=error):
                await (await task.aenqueue()).aresult(10)
        with pytest.raises(TaskDead, match="AttemptTimeout"):
            await (await hangs.aenqueue()).aresult(10)
    clean(app)


async def test_a_hook_that_hangs_is_ended_at_the_timeout(url: str) -> None:
    class Hangs(Hook):
        @asynccontextmanager
        async def around_attempt(self, context: Context) -> AsyncGenerator[None]:
            await asyncio.sleep(60)
            yield

    app = StreamQ("shop", url, hooks=[Hangs()])

    @app.task(max_attempts=1, timeout=0.1)
    async def work() -> None: ...

    async with working(app):
        with pytest.raises(TaskDead, match="AttemptTimeout"):
            await (await work.aenqueue()).aresult(10)
    clean(app)


async def test_observers_are_told_of_every_end_once(url: str) -> None:
    watch = Observing()
    app = StreamQ("shop", url, hooks=[watch])

    @app.task
    async def good() -> None: ...

    @app.task(max_attempts=2, backoff=wait_fixed(0))
    async def bad() -> None:
        raise ValueError("mine")

    @app.task(max_attempts=1)
    async def picky(day: date) -> None: ...

    async with serving(app):
        await (await good.aenqueue()).aresult(10)
        handle = await bad.aenqueue()
        with pytest.raises(TaskDead):
            await handle.aresult(20)
        task = app.bound("good").task._replace(payload=b'{"day":"x"}')
        [answer] = app._client.enqueue("picky", 0, [task])
        await until(lambda: ("stored", "picky", "dead") in watch.seen, 20)
    assert answer
    of = {name: [one for one in watch.seen if one[1] == name] for name in ("good", "bad", "picky")}
    assert of["good"] == [
        ("began", "good", 1), ("ended", "good", "completed", True), ("stored", "good", "completed"),
    ]  # fmt: skip
    failed = ("failed", "bad", "ValueError", "mine", True)
    assert [one for one in of["bad"] if one[0] != "stored"] == [
        ("began", "bad", 1), failed, ("ended", "bad", "retried", True),
        ("began", "bad", 2), failed, ("ended", "bad", "dead", True),
    ]  # fmt: skip
    assert [one[2] for one in of["bad"] if one[0] == "stored"] == ["retried", "dead"]
    assert [one[:3] for one in of["picky"]][-2:] == [("ended", "picky", "dead"), ("stored", "picky", "dead")]
    assert not any(one[0] == "began" for one in of["picky"])  # it was not called
    clean(app)


class Broken(Hook):
    def attempt_began(self, task: Delivery, at_ms: int) -> None:
        raise SystemExit("began")

    def attempt_failed(self, task: Delivery, error: str, message: str, traceback: str) -> None:
        raise RuntimeError("failed")

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        raise MemoryError

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        raise KeyboardInterrupt

    def drain(self, now_ms: int) -> Any:
        return 3


class Before(Hook):
    def around_delivery(self, task: Delivery, worker: str) -> Any:
        raise ValueError


class After(Hook):
    @contextmanager
    def around_delivery(self, task: Delivery, worker: str) -> Generator[None]:
        yield
        raise ValueError


async def test_observers_harm_no_task_and_are_logged_once(url: str) -> None:
    app = StreamQ("shop", url, hooks=[Broken(), Before(), After()])

    @app.task
    async def work(n: int) -> int:
        return n

    @app.task(max_attempts=1)
    def fails() -> None:
        raise LookupError("mine")

    with structlog.testing.capture_logs() as lines:
        async with working(app):
            handles = await app.aenqueue_many([work.bind(n) for n in range(50)])
            assert [await handle.aresult(10) for handle in handles] == list(range(50))
            for _ in range(3):
                with pytest.raises(TaskDead, match="LookupError: mine"):
                    await (await fails.aenqueue()).aresult(10)
            await until(lambda: any("drain" in str(line.get("hook")) for line in lines), 20)
    told = sorted(
        line["hook"].rpartition(".<locals>.")[2] for line in lines if line["event"] == "hook.failed"
    )
    assert told == [
        "After.around_delivery", "Before.around_delivery", "Broken.attempt_began", "Broken.attempt_ended",
        "Broken.attempt_failed", "Broken.attempt_stored", "Broken.drain",
    ]  # fmt: skip
    clean(app)


async def test_hooks_are_where_the_handler_is(app: StreamQ) -> None:
    """A process of its own included, in which a `def` handler may run an event loop itself."""
    app_ = hooked.at(str(app.address))
    async with working(app_):
        pid, *found = await (await app_.asend("inside", {})).aresult(20)
        assert pid != os.getpid()
        assert found == ["acme", True, True]
        pid, *found = await (await app_.asend("in_thread", {})).aresult(20)
        assert (pid, found) == (os.getpid(), ["acme", True, False])
    clean(app_)


@pytest.mark.parametrize("where", ["fails_inside", "fails_in_thread"])
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("value", "LookupError: instead of value"),
        ("key", "KeyError: 'key'"),
        ("exit", "SystemExit: exit"),
        ("stop", "RuntimeError"),
    ],
)
async def test_failures_come_through_the_hooks_wherever_they_are(
    app: StreamQ, where: str, what: str, error: str
) -> None:
    app_ = hooked.at(str(app.address))
    async with working(app_):
        with pytest.raises(TaskDead, match=error):
            await (await app_.asend(where, {"what": what})).aresult(20)
        assert (await (await app_.asend("inside", {})).aresult(20))[1] == "acme"
    clean(app_)


async def test_a_failure_has_the_dotted_path_of_its_exception(app: StreamQ) -> None:
    app_ = hooked.at(str(app.address))
    async with working(app_):
        for name, options, wanted in (
            ("declined", {}, "tests.worker.hooked.Declined"),
            ("declined_inside", {}, "tests.worker.hooked.Declined"),
            ("fails_in_thread", {"what": "exit"}, None),
        ):
            handle = await app_.asend(name, options)
            with pytest.raises(TaskDead):
                await handle.aresult(20)
            [failure] = app_.inspector.task(handle.id).failures
            assert failure.get("class") == wanted
            assert failure["error"] == ("SystemExit" if wanted is None else "Declined")
    clean(app_)


def test_what_is_no_hook_is_refused() -> None:
    for wrong in (object(), Hook(), Observing, "x"):
        with pytest.raises(UsageError, match="not a hook"):
            StreamQ("shop", hooks=[wrong])  # type: ignore[list-item]


async def test_without_hooks_nothing_is_called(url: str) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work() -> None: ...

    async with working(app) as worker:
        observers = worker.parts.observers
        assert (observers.began, observers.failed, observers.stored) == (None, None, None)
        assert not observers.is_around
        assert work.handler.around == ()
