"""Handlers that take batches, on a live server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tenacity import wait_none

from streamq import Batch, Depends, Item, KeyRing, Retry, StreamQ, WorkerOptions, get_context
from streamq.embedded import EmbeddedServer
from streamq.errors import InvalidArguments, InvalidOption, PayloadError, TaskDead, UsageError
from tests.client.proxy import Proxy
from tests.running import clean, serving, tending, until, working
from tests.worker import handlers

ONE = WorkerOptions(concurrency=1, drain_timeout=5, block=0.5, heartbeat=0.2)


@dataclass
class Mail:
    to: str
    customer: int = 0


async def test_batches_are_full_and_the_last_waits_for_its_linger(app: StreamQ) -> None:
    sizes: list[int] = []
    at: list[float] = []

    @app.task(batch=Batch(100, linger="700ms"))
    async def email(items: list[Item[Mail]]) -> list[str]:
        sizes.append(len(items))
        at.append(time.monotonic())
        return [item.value.to for item in items]

    sent = await app.aenqueue_many([email.bind(Mail(f"{n}@x")) for n in range(250)])
    async with serving(app, ONE):
        assert [await one.aresult(30) for one in sent] == [f"{n}@x" for n in range(250)]
    assert sizes == [100, 100, 50]
    assert at[2] - at[1] > 0.6
    clean(app)


async def test_one_item_fails_and_retries_alone(app: StreamQ) -> None:
    calls: list[list[int]] = []

    @app.task(batch=Batch(20, linger="300ms"), max_attempts=3, backoff=wait_none())
    async def email(items: list[Item[int]]) -> list[int] | None:
        calls.append([item.value for item in items])
        for item in items:
            if item.value == 7 and item.attempt == 1:
                item.fail(ConnectionError("no such relay"))
            if item.value == 8 and item.attempt == 1:
                item.retry(after="10ms")
            if item.value == 9:
                item.fail("never")
        return [2 * item.value for item in items]

    sent = await app.aenqueue_many([email.bind(n) for n in range(20)])
    async with serving(app, ONE):
        for n, one in enumerate(sent):
            if n != 9:
                assert await one.aresult(30) == 2 * n
        with pytest.raises(TaskDead, match="RuntimeError: never"):
            await sent[9].aresult(30)
    assert len(calls[0]) == 20
    assert Counter(n for call in calls[1:] for n in call) == {7: 1, 8: 1, 9: 2}
    assert [one["message"] for one in app.inspector.task(sent[9].id).failures] == 3 * ["never"]
    clean(app)


@pytest.mark.parametrize("how", ["raises", "too few", "no list"])
async def test_an_exception_fails_all_that_are_not_marked(app: StreamQ, how: str) -> None:
    @app.task(batch=Batch(5, linger="200ms"), max_attempts=1)
    def email(items: list[Item[int]]) -> list[int]:
        items[0].fail(KeyError("mine"))
        items[2].fail(KeyError("mine"))
        if how == "raises":
            raise ValueError("yours")
        return [1] if how == "too few" else 5  # type: ignore[return-value]

    sent = await app.aenqueue_many([email.bind(n) for n in range(5)])
    async with serving(app, ONE):
        for n, one in enumerate(sent):
            mine = n in (0, 2) if how == "raises" else n == 2
            with pytest.raises(TaskDead) as dead:
                await one.aresult(30)
            if n:
                assert ("mine" in dead.value.error) is mine
            assert dead.value.reason == ("attempts" if mine or how == "raises" else "result") or not n
    clean(app)


async def test_a_result_that_cannot_be_stored_fails_only_its_item(app: StreamQ) -> None:
    @app.task(batch=Batch(3, linger="200ms"), max_attempts=1)
    async def email(items: list[Item[int]]) -> list[int]:
        return [item.value or "none" for item in items]  # type: ignore[misc]

    sent = await app.aenqueue_many([email.bind(n) for n in (1, 0, 2)])
    async with serving(app, ONE):
        assert (await sent[0].aresult(30), await sent[2].aresult(30)) == (1, 2)
        with pytest.raises(TaskDead, match="PayloadError"):
            await sent[1].aresult(30)
    clean(app)


async def test_none_is_all_well_and_a_plain_call_is_a_batch_of_one(app: StreamQ) -> None:
    seen: list[int] = []

    @app.task(batch=10)
    def email(items: list[Item[int]]) -> None:
        seen.extend(item.value for item in items)

    @app.task(batch=10)
    def double(items: list[Item[int]]) -> list[int]:
        return [2 * item.value for item in items]

    email(5)
    assert double(4) == 8
    assert seen == [5]
    async with serving(app, ONE):
        await (await email.aenqueue(6)).aresult(20)
        assert await (await app.asend("double", {"item": 3})).aresult(20) == 6
    assert seen == [5, 6]
    clean(app)


async def test_by_a_field_and_by_bytes(app: StreamQ) -> None:
    batches: list[list[Mail]] = []

    @app.task(batch=Batch(50, linger="300ms", by="customer"))
    async def email(items: list[Item[Mail]]) -> None:
        batches.append([item.value for item in items])

    lengths: list[int] = []

    @app.task(batch=Batch(50, linger="300ms", max_bytes=1000))
    async def note(items: list[Item[str]]) -> None:
        lengths.append(sum(len(item.value) for item in items))

    sent = await app.aenqueue_many([email.bind(Mail("x", n % 3)) for n in range(30)])
    other = await app.aenqueue_many([note.bind("x" * 300) for _ in range(10)])
    async with serving(app, WorkerOptions(concurrency=4, drain_timeout=5, block=0.5, heartbeat=0.2)):
        for one in (*sent, *other):
            await one.aresult(30)
    assert all(len({mail.customer for mail in batch}) == 1 for batch in batches)
    assert len(batches) < 10
    assert max(lengths) <= 900
    assert len(lengths) < 10
    clean(app)


async def test_an_item_that_kills_its_worker_ends_as_a_dead_letter_and_the_others_complete(
    url: str,
) -> None:
    app = handlers.at(url)
    sent = [await handlers.poisoned.aenqueue(n) for n in range(20)]
    process = await asyncio.create_subprocess_exec(
        "streamq", "worker", "tests.worker.handlers:app", "--url", url, "--types", "poisoned",
        "--concurrency", "2", "--processes", "1",
    )  # fmt: skip
    try:
        async with tending(app):
            for n, one in enumerate(sent):
                if n != 13:
                    assert await one.aresult(90) == n
            with pytest.raises(TaskDead) as dead:
                await sent[13].aresult(90)
        assert dead.value.reason == "lost"
    finally:
        process.terminate()
        await process.wait()
    clean(app)


async def test_a_drain_hands_back_what_is_gathered_uncounted(app: StreamQ) -> None:
    seen: list[tuple[int, int]] = []

    @app.task(batch=Batch(100, linger="1h"), max_attempts=1)
    async def email(items: list[Item[int]]) -> None:
        seen.extend((item.value, item.attempt) for item in items)

    sent = await app.aenqueue_many([email.bind(n) for n in range(30)])
    async with working(app, ONE) as worker:
        await until(lambda: len(worker.parts.in_flight) == 30)
        at = time.monotonic()
    assert time.monotonic() - at < 4
    assert seen == []
    stats = app.inspector.type_stats("email")
    assert (stats.ready, stats.counters["handed_back"], stats.counters.get("started", 0)) == (30, 30, 0)
    more = await app.aenqueue_many([email.bind(n) for n in range(30, 100)])
    async with serving(app, ONE):
        for one in (*sent, *more):
            await one.aresult(30)
    assert sorted(seen) == [(n, 1) for n in range(100)]
    clean(app)


async def test_a_running_batch_ends_in_a_drain(app: StreamQ) -> None:
    started = asyncio.Event()

    @app.task(batch=Batch(5, linger=0))
    async def email(items: list[Item[int]]) -> list[int]:
        started.set()
        await asyncio.sleep(0.3)
        return [item.value for item in items]

    sent = await app.aenqueue_many([email.bind(n) for n in range(5)])
    async with working(app, ONE):
        await asyncio.wait_for(started.wait(), 20)
    assert [one.status() for one in sent].count("completed") >= 1
    async with serving(app, ONE):
        assert [await one.aresult(30) for one in sent] == list(range(5))
    assert app.inspector.type_stats("email").counters.get("retried", 0) == 0
    clean(app)


async def test_a_gathered_task_can_be_cancelled_and_a_paused_type_gathers_nothing(app: StreamQ) -> None:
    seen: list[int] = []

    @app.task(batch=Batch(100, linger="1h"))
    async def email(items: list[Item[int]]) -> None:
        seen.extend(item.value for item in items)

    sent = await app.aenqueue_many([email.bind(n) for n in range(3)])
    async with serving(app, ONE) as worker:
        await until(lambda: len(worker.parts.in_flight) == 3)
        assert await sent[1].acancel() == "requested"
        await until(lambda: sent[1].status() == "cancelled")
        app.admin.pause("email")
        await until(lambda: len(worker.parts.in_flight) == 0)
        assert [sent[0].status(), sent[2].status()] == ["ready", "ready"]
    assert seen == []
    clean(app)


async def test_one_batch_is_one_slot_and_several_types_do_not_starve_each_other(app: StreamQ) -> None:
    done: Counter[str] = Counter()
    running = most = 0

    async def work(name: str, items: list[Item[int]]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        done[name] += len(items)
        running -= 1

    @app.task(batch=Batch(20, linger="100ms"))
    async def one(items: list[Item[int]]) -> None:
        await work("one", items)

    @app.task(batch=Batch(20, linger="100ms"))
    async def two(items: list[Item[int]]) -> None:
        await work("two", items)

    @app.task
    async def plain(n: int) -> None:
        await asyncio.sleep(0.001)
        done["plain"] += 1

    sent = await app.aenqueue_many([t.bind(n) for n in range(400) for t in (one, two)])
    await app.aenqueue_many([plain.bind(n) for n in range(400)])
    async with serving(app, WorkerOptions(concurrency=2, drain_timeout=5, block=0.5, heartbeat=0.2)):
        await until(lambda: max(done["one"], done["two"]) == 400, 90)
        assert min(done["one"], done["two"]) > 100, done
        assert done["plain"] > 0, done
        for handle in sent:
            await handle.aresult(60)
        await until(lambda: done["plain"] == 400, 90)
    assert most <= 2
    clean(app)


async def test_a_batch_is_called_while_other_types_keep_the_worker_busy(app: StreamQ) -> None:
    waited: list[float] = []

    @app.task(batch=Batch(100, linger="200ms"))
    async def email(items: list[Item[int]]) -> None:
        waited.append(time.monotonic())

    @app.task
    async def busy() -> None:
        await asyncio.sleep(0.01)

    async with serving(app, ONE):
        await app.aenqueue_many([busy.bind() for _ in range(500)])
        await until(lambda: app.inspector.type_stats("busy").counters.get("completed", 0) > 5)
        await (await email.aenqueue(1)).aresult(20)
        assert app.inspector.type_stats("busy").counters.get("completed", 0) < 500
    clean(app)


async def test_a_reconnect_while_lingering_holds_nothing_for_longer(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)

    @app.task(batch=Batch(100, linger="600ms"))
    async def email(items: list[Item[int]]) -> list[int]:
        return [len(items)]

    async with working(app, ONE) as worker:
        handle = await direct.asend("email", {"item": 1})
        await until(lambda: len(worker.parts.in_flight) == 1)
        at = time.monotonic()
        proxy.cut()
        assert await handle.aresult(20) == 1
        assert time.monotonic() - at < 5
    clean(direct)


async def test_dependencies_and_the_timeout_are_of_the_call(app: StreamQ) -> None:
    opened: list[str] = []

    async def session() -> AsyncIterator[str]:
        opened.append("open")
        yield "db"
        opened.append("close")

    @app.task(batch=Batch(5, linger="200ms"), timeout=0.3, max_attempts=1)
    async def email(items: list[Item[int]], db: str = Depends(session)) -> list[str]:
        if items[0].value < 0:
            await asyncio.sleep(30)
        return [db for _ in items]

    async with serving(app, ONE):
        sent = await app.aenqueue_many([email.bind(n) for n in range(5)])
        assert [await one.aresult(20) for one in sent] == 5 * ["db"]
        assert opened == ["open", "close"]
        sent = await app.aenqueue_many([email.bind(-1) for _ in range(5)])
        for one in sent:
            with pytest.raises(TaskDead, match="AttemptTimeout"):
                await one.aresult(20)
    clean(app)


async def test_an_item_that_cannot_be_read_and_one_that_has_expired_spoil_no_batch(app: StreamQ) -> None:
    other = StreamQ("shop", str(app.address))
    sizes: list[int] = []

    @app.task(batch=Batch(4, linger="1s"), max_attempts=1)
    async def email(items: list[Item[int]]) -> list[int]:
        sizes.append(len(items))
        return [item.value for item in items]

    bad = await other.asend("email", {"item": "five"})
    late = await email.options(expires=0.001).aenqueue(9)
    sent = await app.aenqueue_many([email.bind(n) for n in range(3)])
    async with serving(app, ONE):
        assert [await one.aresult(20) for one in sent] == [0, 1, 2]
        with pytest.raises(TaskDead) as dead:
            await bad.aresult(20)
        assert dead.value.reason == "arguments"
        await until(lambda: late.status() == "expired")
    clean(app)


async def test_what_belongs_to_one_task_is_refused_in_a_batch(app: StreamQ) -> None:
    told: list[str] = []

    @app.task(batch=2)
    async def email(items: list[Item[int]]) -> None:
        for call in (
            lambda: get_context().enqueue(email.bind(1)), lambda: get_context().progress(1),
            lambda: get_context().emit(1),
        ):  # fmt: skip
            with pytest.raises(UsageError) as raised:
                call()
            told.append(str(raised.value))
        with pytest.raises(UsageError):
            await get_context().step("one", int)

    async with serving(app, ONE):
        await (await email.aenqueue(1)).aresult(20)
    assert "a call for many tasks" in told[0]
    clean(app)


def test_wrong_batches_are_told_where_they_are_declared(app: StreamQ) -> None:
    for wrong in (0, 1001, True, "5", Batch):
        with pytest.raises(InvalidOption, match="size|batch"):
            app.task(batch=wrong)(lambda items: None)  # type: ignore[arg-type]
    for more in ({"linger": "2h"}, {"linger": -1}, {"by": "a b"}, {"max_bytes": "x"}):
        with pytest.raises(InvalidOption, match="Batch"):
            Batch(5, **more)
    with pytest.raises(InvalidOption, match="exclude each other"):

        @app.task(batch=5, executor="process")
        def one(items: list[Item[int]]) -> None: ...

    with pytest.raises(InvalidOption, match="takes one argument, the list of its items"):

        @app.task(batch=5)
        def two(items: list[Item[int]], more: int) -> None: ...

    with pytest.raises(InvalidOption, match="takes one argument, the list of its items"):

        @app.task(batch=5)
        def three() -> None: ...

    @app.task(batch=5)
    def four(items: list[Item[int]]) -> None: ...

    with pytest.raises(PayloadError):
        four.bind("five")  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments):
        four.bind(1, 2)  # type: ignore[call-arg]
    assert isinstance(Retry(), Exception)


async def test_items_are_sealed_and_have_versions(url: str) -> None:
    app = StreamQ("shop", url, keys=KeyRing("a", {"a": bytes(32)}), compression="zlib")
    older = StreamQ("shop", url, keys=KeyRing("a", {"a": bytes(32)}))

    @older.task(name="email")
    async def plain(item: str) -> None: ...

    @app.task(batch=Batch(3, linger="300ms"), version=2)
    async def email(items: list[Item[str]]) -> list[str]:
        return [item.value for item in items]

    @email.upcast(1)
    def renamed(given: dict[str, object]) -> dict[str, object]:
        return {"item": f"{given['item']} of old"}

    sent = await app.aenqueue_many([email.bind("x" * n) for n in (10, 5_000)])
    old = await plain.aenqueue("one")
    async with serving(app, ONE):
        assert [await one.aresult(30) for one in sent] == ["x" * 10, "x" * 5_000]
        assert await app.handle(old.id).aresult(30) == "one of old"
    clean(app)
    await app.aclose()
    await older.aclose()
