"""Follow-ups of handlers, on a live server: they exist if and only if the attempt completed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from tenacity import wait_none

from streamq import Lane, StreamQ, Unique, WorkerOptions, get_context, scripts
from streamq.app import follow_ups
from streamq.embedded import EmbeddedServer
from streamq.errors import InvalidArguments, InvalidOption, PayloadError
from streamq.hooks import Enqueue, Hook
from streamq.model.effect import Follow, FollowUp
from streamq.model.task import NewTask
from streamq.worker import settler
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.running import OPTIONS, clean, serving, until, working
from tests.worker import handlers


async def test_it_runs_once_the_attempt_is_completed_and_not_before(app: StreamQ) -> None:
    ran: list[int] = []

    @app.task(max_attempts=3, backoff=wait_none())
    async def order(n: int) -> str:
        handle = get_context().enqueue(mail.bind(n))
        assert await app.handle(handle.id).astatus() == "unknown"
        if get_context().attempt < 3:
            raise ValueError
        return str(handle.id)

    @app.task
    async def mail(n: int) -> str:
        ran.append(n)
        return f"sent {n}"

    async with serving(app):
        found = await (await order.aenqueue(7)).aresult(20)
        assert await app.handle(found).aresult(20) == "sent 7"
    assert ran == [7]
    clean(app)


async def test_one_of_a_failed_or_cancelled_task_never_exists(app: StreamQ) -> None:
    ids: list[str] = []
    started = asyncio.Event()

    @app.task(max_attempts=1)
    async def order(fail: bool) -> None:
        ids.append(get_context().enqueue(mail.bind()).id)
        if fail:
            raise ValueError
        started.set()
        await asyncio.sleep(60)

    @app.task
    async def mail() -> None: ...

    async with serving(app):
        await order.aenqueue(fail=True)
        other = await order.aenqueue(fail=False)
        await started.wait()
        await other.acancel()
        await until(lambda: app.inspector.type_stats("order").running == 0)
    assert [app.handle(one).status() for one in ids] == ["unknown", "unknown"]
    clean(app)


async def test_in_a_thread_and_many_at_once(app: StreamQ) -> None:
    @app.task
    def order() -> list[str]:
        handles = get_context().enqueue_many([mail.bind(n) for n in range(50)])
        handles += [get_context().enqueue(mail.options(priority="high").bind(50))]
        return [handle.id for handle in handles]

    @app.task
    async def mail(n: int) -> int:
        return n

    async with serving(app):
        ids = await (await order.aenqueue()).aresult(20)
        found = [await app.handle(one).aresult(20) for one in ids]
    assert found == list(range(51))
    assert len(set(ids)) == 51
    clean(app)


async def test_in_a_child_process(url: str) -> None:
    app = handlers.at(url)
    async with serving(app, WorkerOptions(types=("follows", "where"), concurrency=2, process_slots=1)):
        found = await (await handlers.follows.aenqueue()).aresult(30)
        assert (await app.handle(found).aresult(30))[1] == 1
    clean(app)


async def test_a_lost_reply_and_a_worker_that_was_killed_add_each_once(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)

    @app.task(lease=60)
    async def order(n: int) -> None:
        proxy.lose_reply_to(scripts.load("settle_rich").sha.encode())
        get_context().enqueue(mail.bind(n))

    @app.task
    async def mail(n: int) -> None: ...

    async with working(app, WorkerOptions(concurrency=1, drain_timeout=5, block=0.5, heartbeat=60)):
        for n in range(5):
            handle = await direct.asend("order", {"n": n})
            await until(lambda handle=handle: handle.status() == "completed")  # type: ignore[misc]
        await until(lambda: direct.inspector.type_stats("mail").counters.get("completed") == 5)
    assert direct.inspector.type_stats("mail").counters["accepted"] == 5
    clean(direct)


async def test_a_zombie_adds_none(app: StreamQ, url: str) -> None:
    seen: list[str] = []

    @app.task(lease=1)
    async def order() -> None:
        seen.append(get_context().enqueue(mail.bind()).id)

    @app.task
    async def mail() -> None: ...

    async with working(app, OPTIONS) as worker:
        lane = worker.parts.settler._open(0)
        real = lane._call

        def stolen(type_shard: Any, batch: Any) -> Any:
            # Another worker takes the task over right before it is settled.
            if type_shard[0] == "order" and len(seen) == 1:
                [held] = [one for one, _ in batch]
                key = "streamq:{shop:0}:order:normal"
                command(url, "XACK", key, "workers", held.delivery.place[1:])
                command(url, "XDEL", key, held.delivery.place[1:])
            return real(type_shard, batch)

        lane._call = stolen  # type: ignore[method-assign]
        await order.aenqueue()
        await until(lambda: len(seen) == 1 and len(worker.parts.in_flight) == 0)
        assert await app.handle(seen[0]).astatus() == "unknown"
        await order.aenqueue()
        await until(lambda: app.handle(seen[-1]).status() == "completed" if len(seen) == 2 else False)
    assert app.inspector.type_stats("mail").counters["accepted"] == 1


async def test_what_a_follow_up_cannot_keep_is_refused_in_the_callers_line(app: StreamQ, url: str) -> None:
    other = StreamQ("other", url)
    said: list[str] = []

    @app.task(lane=Lane("n", running=1))
    async def laned(n: int) -> None: ...

    @app.task(unique=Unique())
    async def locked(n: int) -> None: ...

    @app.task
    async def plain(text: str = "") -> None: ...

    @other.task
    async def foreign() -> None: ...

    @app.task(max_attempts=1)
    async def order() -> None:
        context = get_context()
        calls: list[tuple[type[Exception], Callable[[], Any]]] = [
            (InvalidOption, lambda: laned.bind(1)),
            (InvalidOption, lambda: locked.bind(1)),
            (InvalidOption, lambda: plain.options(shard_key="a").bind()),
            (InvalidOption, lambda: plain.options(unique="a").bind()),
            (InvalidArguments, foreign.bind),
            (InvalidArguments, lambda: plain),
        ]
        for wrong, call in calls:
            with pytest.raises(wrong) as raised:
                context.enqueue(call())
            said.append(str(raised.value))
        with pytest.raises(PayloadError, match="101 follow-ups: one attempt can have 100"):
            context.enqueue_many([plain.bind()] * (follow_ups.MOST + 1))
        with pytest.raises(PayloadError, match="over the limit of 524,288"):
            context.enqueue_many([plain.bind("x" * 300_000)] * 2)

    async with serving(app):
        await (await order.aenqueue()).aresult(20)
    assert "has lanes or unique keys" in said[0]
    assert app.inspector.type_stats("plain").counters.get("accepted", 0) == 0


async def test_after_the_end_there_is_nothing_to_add_to(app: StreamQ) -> None:
    contexts: list[Any] = []

    @app.task
    async def order() -> None:
        contexts.append(get_context())

    async with serving(app):
        await (await order.aenqueue()).aresult(20)
    with pytest.raises(LookupError, match="after its handler had returned"):
        contexts[0].enqueue(order.bind())


async def test_the_hooks_around_enqueue_calls_see_them(url: str) -> None:
    calls: list[tuple[str, int, int]] = []

    class Watch(Hook):
        @contextmanager
        def around_enqueue(self, call: Enqueue) -> Generator[None]:
            call.carry_trace(b"00-1")
            yield
            calls.append((call.task_type, len(call.tasks), len(call.ids)))

    app = StreamQ("shop", url, hooks=[Watch()])

    @app.task
    async def order() -> None:
        get_context().enqueue_many([mail.bind(), mail.bind()])

    @app.task
    async def mail() -> None: ...

    async with serving(app):
        await (await order.aenqueue()).aresult(20)
        await until(lambda: app.inspector.type_stats("mail").counters.get("completed") == 2)
    assert ("mail", 2, 2) in calls


async def test_an_idempotency_key_holds_and_needs_one_shard(app: StreamQ, url: str) -> None:
    @app.task
    async def order() -> None:
        get_context().enqueue(mail.options(idempotency_key="daily", delay=60).bind())

    @app.task
    async def mail() -> None: ...

    async with serving(app):
        for _ in range(3):
            await (await order.aenqueue()).aresult(20)
    assert app.inspector.type_stats("mail").scheduled == 1
    first = mail.options(idempotency_key="daily").enqueue()
    assert (first.duplicate, first.status()) == (True, "scheduled")

    wide = StreamQ("wide", url, shards=2)

    @wide.task(name="order", max_attempts=1)
    async def spread() -> str:
        with pytest.raises(InvalidOption) as raised:
            get_context().enqueue(post.options(idempotency_key="daily").bind())
        get_context().enqueue(post.bind())
        return str(raised.value)

    @wide.task
    async def post() -> None: ...

    async with serving(wide):
        handle = await spread.aenqueue()
        assert "chooses the shard" in await handle.aresult(20)
        await until(lambda: wide.inspector.type_stats("post").counters.get("completed") == 1)
    clean(wide)


def test_a_settlement_has_few_of_them() -> None:
    class Fake:
        def __init__(self, number: int) -> None:
            self.effects = (follow_ups_of(number),) if number else ()

    def follow_ups_of(number: int) -> Any:
        one = FollowUp("mail", "n1-1", NewTask(b"{}"))
        return Follow((one,) * number)

    def size(*numbers: int) -> int:
        return settler._size([(Fake(n), None) for n in numbers])  # type: ignore[misc]

    assert size(*[0] * 500) == settler.BATCH
    assert size(100, 0, 1) == 2
    assert size(150, 150) == 1
    assert size(25, 25, 25, 25, 25) == 4


async def test_a_worker_killed_at_any_moment_leaves_all_or_none(url: str) -> None:
    """Each task of a chain has its link, and none has two."""
    app = handlers.at(url)
    options = WorkerOptions(types=("chain", "link"), concurrency=4, process_slots=2)
    async with serving(app, options):
        for n in range(30):
            await handlers.chain.aenqueue(n)
        for _ in range(6):
            await until(lambda: bool(handlers.children()))
            for pid in handlers.children()[:1]:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0)
        await until(lambda: app.inspector.type_stats("chain").counters.get("completed") == 30, 60)
        await until(app.idle)
    stats = app.inspector.type_stats("link").counters
    assert (stats["accepted"], stats["completed"]) == (30, 30)
    clean(app)
