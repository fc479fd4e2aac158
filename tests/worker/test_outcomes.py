"""Every way a task can end in a worker in this process, and what the policy has to say about it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import datetime
from typing import Any

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
from tests.conftest import command
from tests.letters import all_dead
from tests.running import clean, serving, until


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
    assert +Counter(app.inspector.type_stats("flaky").counters) == {
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
        (Retry(after=-1), {"max_attempts": 2, "backoff": wait_fixed(0)}, "attempts", 2),
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
        assert time.monotonic() - began < 8  # told by message, not at the next renewal
        assert await running.acancel() == "cancelled"  # it was
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
        watched = await forgotten.options(delay=0.3).aenqueue()
        with pytest.raises(ResultUnavailable, match="completed, but its result was not kept"):
            await watched.aresult(10)
        assert await watched.astatus() == "completed"
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


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("x", "y"), "foreign"),
        (("p", "not json", "i", "n5-0"), "undecodable"),
        (("p", "{}"), "arguments"),
        (("p", '{"to":"x"}', "v", "nine"), "undecodable"),
        (("p", '{"to":"x"}', "N", "a b"), "undecodable"),
        (("p", '{"to":7}'), "arguments"),
        (("Payload", "x"), "foreign"),
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
    [letter] = all_dead(app.inspector, "email")
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


def test_limits_of_the_policy_hold_for_every_producer(app: StreamQ) -> None:
    @app.task(rate_limit="3/1h")
    async def limited() -> None: ...

    @app.task(max_backlog=2)
    async def bounded() -> None: ...

    limited.enqueue()
    other = StreamQ("shop", str(app.address))  # a program without the code
    other.send("limited")
    other.send("limited")
    with pytest.raises(RateLimitExceeded, match="retry in") as caught:
        limited.enqueue()
    assert 3500 < caught.value.retry_after <= 3600
    with pytest.raises(QueueFull, match="backlog limit reached for task type 'bounded'") as full:
        app.enqueue_many([bounded.bind() for _ in range(4)])
    assert [handle is not None for handle in full.value.accepted] == [True, True, False, False]
    with pytest.raises(QueueFull):
        other.send("bounded")
