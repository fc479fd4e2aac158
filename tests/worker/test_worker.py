"""A worker in this process: every way a handler can end, policies, limits, context."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID, uuid4

import pydantic
import pytest
from tenacity import wait_fixed

from streamq import (
    Context,
    QueueFull,
    RateLimitExceeded,
    ResultUnavailable,
    Retry,
    StreamQ,
    TaskCancelled,
    TaskDead,
    TaskExpired,
    TaskHandle,
    WorkerOptions,
    get_context,
)
from streamq.errors import ResultTimeout
from streamq.keys import GROUP, type_keys
from tests.conftest import command
from tests.running import OPTIONS, clean, serving, until, working


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


async def test_retries_with_backoff_until_it_works(app: StreamQ) -> None:
    attempts: list[Context] = []

    @app.task(max_attempts=3, backoff=wait_fixed(0.05))
    async def flaky() -> str:
        attempts.append(get_context())
        if len(attempts) < 3:
            raise OSError("not yet")
        return "ok"

    async with serving(app):
        handle = await flaky.aenqueue()
        assert await handle.aresult(5) == "ok"
    assert [c.attempt for c in attempts] == [1, 2, 3]
    assert {c.id for c in attempts} == {handle.id}
    assert app.inspector.type_stats("flaky").counters == {
        "accepted": 1, "started": 3, "retried": 2, "completed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "policy", "reason", "attempts"),
    [
        (OSError("x"), {"max_attempts": 2, "backoff": wait_fixed(0)}, "attempts", 2),
        (KeyError("x"), {"retry_on": OSError}, "gave_up", 1),
        (KeyError("x"), {"give_up_on": (LookupError,)}, "gave_up", 1),
        (SystemExit(3), {"max_attempts": 1}, "attempts", 1),
        (KeyboardInterrupt(), {"max_attempts": 1}, "attempts", 1),
        (asyncio.CancelledError(), {"max_attempts": 1}, "attempts", 1),
        (Retry(after=0), {"max_attempts": 2}, "attempts", 2),
        (Retry(after=-1), {"max_attempts": 2}, "backoff", 1),
        (StopIteration(), {"max_attempts": 1}, "attempts", 1),
    ],
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_every_exception_ends_as_the_policy_says(
    app: StreamQ, raised: BaseException, policy: dict[str, object], reason: str, attempts: int, kind: str
) -> None:
    async def on_loop() -> None:
        raise raised

    def in_thread() -> None:
        raise raised

    task = app.task(name="fails", **policy)(on_loop if kind == "async" else in_thread)  # type: ignore[call-overload]
    async with serving(app):
        handle = await task.aenqueue()
        with pytest.raises(TaskDead) as caught:
            await handle.aresult(10)
        assert caught.value.reason == reason
        info = await asyncio.to_thread(app.inspector.task, handle.id)
        assert len(info.failures) == attempts
        assert info.failures[-1]["worker"]
    clean(app)


async def test_a_retry_can_name_its_delay(app: StreamQ) -> None:
    starts: list[float] = []

    @app.task
    async def later() -> None:
        starts.append(time.monotonic())
        if len(starts) == 1:
            raise Retry(after="200ms")

    async with serving(app):
        await (await later.aenqueue()).aresult(5)
    assert starts[1] - starts[0] >= 0.2


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
        assert time.monotonic() - began < 5
        release.set()


async def test_a_handler_that_ignores_its_cancellation_is_written_off(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamq.worker import runner

    monkeypatch.setattr(runner, "GRACE", 0.2)
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
    from streamq.worker import runner

    monkeypatch.setattr(runner, "GRACE", 0.1)
    release = threading.Event()

    @app.task(timeout=0.1, max_attempts=1)
    def never() -> None:
        release.wait(20)

    async with working(app, WorkerOptions(concurrency=1, block=0.3, drain_timeout=0.1)) as worker:
        await never.aenqueue()
        await until(lambda: worker.worn_out)
        release.set()


async def test_cancel_running_ready_and_scheduled(app: StreamQ) -> None:
    started = asyncio.Event()

    @app.task
    async def sleeps(seconds: float) -> None:
        started.set()
        await asyncio.sleep(seconds)

    async with serving(app, WorkerOptions(concurrency=1, block=0.3)):
        running = await sleeps.aenqueue(30)
        await started.wait()
        began = time.monotonic()
        scheduled = await sleeps.options(delay="1h").aenqueue(0)
        assert await scheduled.astatus() == "scheduled"
        assert await scheduled.acancel() == "cancelled"
        assert await running.acancel() == "requested"
        for handle in (running, scheduled):
            with pytest.raises(TaskCancelled):
                await handle.aresult(5)
        assert time.monotonic() - began < 2  # told by message, not at the next renewal
        assert await running.acancel() == "too late"
        assert await asyncio.to_thread(app.handle("sleeps:0:n1-0").cancel) == "unknown"
    clean(app)


async def test_a_task_too_old_is_not_run(app: StreamQ) -> None:
    ran: list[int] = []

    @app.task
    async def note(x: int) -> None:
        ran.append(x)

    handle = await note.options(expires=0.05).aenqueue(1)
    await asyncio.sleep(0.06)  # its whole life
    async with serving(app):
        with pytest.raises(TaskExpired):
            await handle.aresult(5)
        await (await note.options(expires="1h").aenqueue(2)).aresult(5)
    assert ran == [2]
    clean(app)


async def test_results_are_kept_as_the_policy_says(app: StreamQ) -> None:
    @app.task(retention=0)
    async def forgotten() -> int:
        return 1

    @app.task
    async def nothing() -> None: ...

    async with serving(app):
        lost = await forgotten.aenqueue()
        with pytest.raises(ResultUnavailable):
            await lost.aresult(5)
        kept = await forgotten.options(retention="1h").aenqueue()
        assert await kept.aresult(5) == 1
        handle: TaskHandle[Any] = await nothing.aenqueue()
        assert await handle.aresult(5) is None
        with pytest.raises(ResultTimeout):
            await (await nothing.options(delay=60).aenqueue()).aresult(0.05)


async def test_a_result_that_cannot_be_encoded_is_a_dead_letter(app: StreamQ) -> None:
    @app.task
    async def odd() -> object:
        return {"deep": [object()]}

    async with serving(app):
        handle = await odd.aenqueue()
        with pytest.raises(
            TaskDead, match=r"the result of task type 'odd' cannot be JSON at deep\[0\]"
        ) as caught:
            await handle.aresult(5)
        assert caught.value.reason == "result"


async def test_high_before_normal_before_low(app: StreamQ) -> None:
    order: list[str] = []

    @app.task
    async def note(name: str) -> None:
        order.append(name)

    for priority in ("low", "normal", "high"):
        app.enqueue_many([note.options(priority=priority).bind(priority) for _ in range(20)])
    async with working(app, WorkerOptions(concurrency=1, block=0.3)):
        await until(lambda: len(order) == 60)
    assert order == ["high"] * 20 + ["normal"] * 20 + ["low"] * 20


async def test_a_saturated_high_stream_does_not_starve_low(app: StreamQ) -> None:
    low = asyncio.Event()

    @app.task(retention=0)
    async def busy() -> None:
        await asyncio.sleep(0.001)

    @app.task
    async def patient() -> None:
        low.set()

    await patient.options(priority="low").aenqueue()
    async with working(app, WorkerOptions(concurrency=2, block=0.3, fairness=0.2)):
        deadline = time.monotonic() + 10
        while not low.is_set():
            assert time.monotonic() < deadline
            await app.aenqueue_many([busy.options(priority="high").bind() for _ in range(50)])


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


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("x", "y"), "foreign"),
        (("p", "not json", "i", "n5-0"), "undecodable"),
        (("p", "{}"), "arguments"),
        (("p", '{"to":1,"bad":2}'), "arguments"),
        (("p", '{"to":"x"}', "v", "9"), "version"),
        (("p", '{"to":"x"}', "a", "many"), "undecodable"),
        (("p", '{"to":"x"}', "m", "[1]"), "undecodable"),
        (("p", '["x"]'), "undecodable"),
        (("p", '{"to":"2020-13-45"}'), "arguments"),
    ],
)
async def test_what_cannot_be_decoded_is_a_dead_letter_whole(
    app: StreamQ, fields: tuple[str, ...], reason: str
) -> None:
    @app.task
    async def email(to: datetime) -> None: ...

    async with serving(app):
        command(str(app.address), "XADD", "streamq:{shop:0}:email:normal", "*", *fields)
        await until(lambda: app.inspector.type_stats("email").dead == 1)
    [letter] = app.inspector.dead("email")
    assert letter.reason == reason
    stored = dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        assert stored[name.encode()] == value.encode() or name == "i"


async def test_overrides_of_one_call(app: StreamQ) -> None:
    contexts: list[Context] = []

    @app.task(max_attempts=5, timeout=20)
    async def look() -> None:
        contexts.append(get_context())

    async with serving(app):
        await (await look.options(max_attempts=2, timeout="5s").aenqueue()).aresult(5)
    assert contexts[0].max_attempts == 2
    assert contexts[0].deadline is not None


async def test_a_drain_lets_running_tasks_finish_and_hands_the_rest_back(app: StreamQ) -> None:
    started = asyncio.Semaphore(0)

    @app.task
    async def work(seconds: float) -> None:
        started.release()
        await asyncio.sleep(seconds)

    quick = await work.aenqueue(0.3)
    slow = await work.aenqueue(30)
    async with working(app, WorkerOptions(concurrency=2, drain_timeout=1, block=0.3)):
        await started.acquire()
        await started.acquire()
        queued = await work.aenqueue(0)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert (await quick.astatus(), await slow.astatus(), await queued.astatus()) == (
        "completed",
        "ready",
        "ready",
    )
    assert app.inspector.type_stats("work").counters["handed_back"] >= 1
    assert app.inspector.workers() == []
    clean(app)


async def test_a_second_stop_ends_at_once(app: StreamQ) -> None:
    started = asyncio.Event()

    @app.task
    async def work() -> None:
        started.set()
        await asyncio.sleep(30)

    handle = await work.aenqueue()
    async with working(app, WorkerOptions(concurrency=2, drain_timeout=60, block=0.3)) as worker:
        await started.wait()
        began = time.monotonic()
        worker.stop()  # and again at the end of the block
    assert time.monotonic() - began < 3
    assert await handle.astatus() == "ready"


async def test_a_blocked_loop_keeps_its_leases(app: StreamQ) -> None:
    """Guard: leases are renewed by a thread of their own."""

    @app.task(lease=0.4)
    async def blocks() -> int:
        time.sleep(2)  # noqa: ASYNC251 - that is the point
        return get_context().lost

    from streamq import Daemon
    from tests.running import QUICK

    daemon = Daemon(app.address, QUICK)
    thread = threading.Thread(target=lambda: asyncio.run(daemon.run()))
    thread.start()
    try:
        async with working(app):
            assert await (await blocks.aenqueue()).aresult(10) == 0
    finally:
        daemon._stop.set()
        thread.join()
    assert app.inspector.type_stats("blocks").counters.get("reclaimed", 0) == 0


async def test_a_heartbeat_tells_what_runs(app: StreamQ) -> None:
    release = asyncio.Event()

    @app.task
    async def work() -> None:
        await release.wait()

    async with working(app, OPTIONS) as worker:
        handle = await work.aenqueue()
        await until(lambda: any(w.details.get("running_count") == 1 for w in app.inspector.workers()))
        [info] = app.inspector.workers()
        assert (info.name, info.alive, info.details["types"]) == (worker.name, True, ["work"])
        assert info.details["running"][0]["id"] == handle.id
        assert info.details["pid"] > 0
        assert info.details["host"]
        release.set()


async def test_what_comes_again_while_it_runs_is_not_run_twice(app: StreamQ) -> None:
    """Found by the chaos runs: with its group everything in hand is ready anew, for the same worker too."""
    release, starts = asyncio.Event(), 0

    @app.task
    async def work() -> int:
        nonlocal starts
        starts += 1
        await release.wait()
        return starts

    stream = type_keys("shop", 0, "work").normal

    def pending() -> Any:
        return command(str(app.address), "XINFO", "GROUPS", stream)

    async with working(app):
        handle = await work.aenqueue()
        await until(lambda: starts == 1)
        command(str(app.address), "XGROUP", "DESTROY", stream, GROUP)
        await until(lambda: bool(pending()) and pending()[0][5] == 1)
        await (await work.options(priority="high").aenqueue()).astatus()
        await until(lambda: starts == 2)  # what was read with it has been taken
        release.set()
        assert await handle.aresult(5) == 2
    assert starts == 2
    assert app.inspector.type_stats("work").counters["completed"] == 2
    clean(app)


async def test_flushall_is_survived(app: StreamQ) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with serving(app):
        assert await (await work.aenqueue(1)).aresult(5) == 1
        command(str(app.address), "FLUSHALL")
        command(str(app.address), "SCRIPT", "FLUSH")
        assert await (await work.aenqueue(2)).aresult(10) == 2


async def test_a_worker_starts_on_a_full_server_and_drains_it(app: StreamQ) -> None:
    """Found by the chaos runs: its start was refused, so a full server stayed full after a deploy."""

    @app.task
    async def work(n: int) -> int:
        return n

    handles = [await work.aenqueue(n) for n in range(3)]
    command(str(app.address), "CONFIG", "SET", "maxmemory", "1")
    try:
        async with working(app):
            assert [await handle.aresult(5) for handle in handles] == [0, 1, 2]
            with pytest.raises(QueueFull, match="memory limit"):
                await work.aenqueue(4)
    finally:
        command(str(app.address), "CONFIG", "SET", "maxmemory", "0")
    clean(app)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_forked_child_does_not_repeat_its_parents_calls(app: StreamQ) -> None:
    """Guard: writers are renewed after a fork. A child that shared its parent's writer and number would
    be answered with the parent's task, and its own would be lost."""
    import os

    app.send("email", {"n": 0})
    pid = os.fork()
    if pid == 0:
        try:
            app.send("email", {"n": 1})
        finally:
            os._exit(0)
    app.send("email", {"n": 2})
    os.waitpid(pid, 0)
    assert app.inspector.type_stats("email").ready == 3


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
    assert "test_worker.py" in failure["traceback"].splitlines()[1]
    assert "ValueError: here" in failure["traceback"]


def test_limits_of_the_policy_hold_for_every_producer(app: StreamQ) -> None:
    @app.task(rate_limit="3/1h")
    async def limited() -> None: ...

    @app.task(max_backlog=2)
    async def bounded() -> None: ...

    limited.enqueue()
    other = StreamQ("shop", str(app.address))  # a program without the code
    other.send("limited")
    other.send("limited")
    with pytest.raises(RateLimitExceeded, match="come again in") as caught:
        limited.enqueue()
    assert 3500 < caught.value.retry_after <= 3600
    with pytest.raises(QueueFull, match="backlog limit of task type 'bounded' is reached") as full:
        app.enqueue_many([bounded.bind() for _ in range(4)])
    assert [handle is not None for handle in full.value.accepted] == [True, True, False, False]
    with pytest.raises(QueueFull):
        other.send("bounded")
