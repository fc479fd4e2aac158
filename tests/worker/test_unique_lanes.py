"""Task types that have lanes and unique keys, with real workers and daemons."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streamq import InvalidOption, Lane, Retry, StreamQ, Unique, UniqueConflict
from streamq.client import flows
from tests.running import clean, serving, until
from tests.worker.test_lanes import WIDE


@contextlib.contextmanager
def counting(now: Counter[str], most: Counter[str], *names: str) -> Iterator[None]:
    """Count how many run at once under each name."""
    now.update(names)
    for name in names:
        most[name] = max(most[name], now[name])
    try:
        yield
    finally:
        now.subtract(names)


async def test_neither_two_of_a_key_nor_more_of_a_lane_than_may_run_at_once(app: StreamQ) -> None:
    """Calls from many sides: some fail, some are cancelled, and some have no key."""
    now, most, ended = Counter[str](), Counter[str](), Counter[str]()
    chance = random.Random(5)

    @app.task(
        lane=Lane("customer", running=2), running=6, unique=Unique(by=("customer", "what")), max_attempts=3
    )
    async def sync(customer: int, what: int, fails: bool = False) -> None:
        with counting(now, most, f"{customer}/{what}", str(customer), "all"):
            await asyncio.sleep(0.005)
        ended[f"{customer}/{what}"] += 1
        if fails:
            raise Retry(after=0.01)

    async def caller() -> None:
        for _ in range(30):
            customer, what = chance.randrange(3), chance.randrange(4)
            fails = chance.random() < 0.2
            if chance.random() < 0.1:
                handle = await sync.options(unique=False).aenqueue(100 + customer, what, fails)
            else:
                handle = await sync.aenqueue(customer, what, fails)
            if chance.random() < 0.1:
                await handle.acancel()
            await asyncio.sleep(chance.random() * 0.01)

    async with serving(app, WIDE):
        await asyncio.gather(*(caller() for _ in range(8)))
        await until(lambda: app.idle("sync", scheduled=True))
    assert sum(ended.values()) > 50
    assert {most[f"{customer}/{what}"] for customer in range(3) for what in range(4)} == {1}
    assert max(most[str(customer)] for customer in (0, 1, 2, 100, 101, 102)) <= 2
    assert most["all"] <= 6
    assert app.inspector.locks("sync") == []
    clean(app)


async def test_the_last_call_runs_once_its_lane_and_the_one_before_let_it(app: StreamQ) -> None:
    seen: list[tuple[str, int]] = []
    gate = asyncio.Event()

    @app.task(lane=Lane("site", running=1), unique=Unique(by=("site", "page"), on_conflict="after"))
    async def render(site: str, page: str, version: int) -> None:
        await gate.wait()
        seen.append((page, version))

    async with serving(app, WIDE):
        first = await render.aenqueue("a", "home", 1)
        await until(lambda: first.status() == "running")
        waiting = await render.aenqueue("a", "home", 2)
        other = await render.aenqueue("a", "news", 1)
        assert (await render.aenqueue("a", "home", 3)).id == waiting.id
        assert (waiting.status(), other.status()) == ("scheduled", "parked")
        [one] = [lock for lock in app.inspector.locks("render") if lock.follows]
        assert (one.holder, one.state, one.follows) == (first.id, "started", waiting.id)
        assert {lock.state for lock in app.inspector.locks("render")} == {"started", "parked"}
        gate.set()
        await until(lambda: len(seen) == 3)
    assert seen == [("home", 1), ("home", 3), ("news", 1)]
    clean(app)


async def test_debounce_and_throttle_of_a_type_with_lanes(app: StreamQ) -> None:
    seen: list[str] = []

    @app.task(lane=Lane("document", running=1), unique=Unique(by=("document",)), debounce="30ms")
    async def index(document: str, text: str) -> None:
        seen.append(text)

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer",)), throttle="1h")
    async def remind(customer: int) -> None:
        seen.append(f"customer {customer}")

    async with serving(app, WIDE):
        for text in ("a", "ab", "abc"):
            await index.aenqueue("readme", text)
        assert (await remind.aenqueue(7)).id == (await remind.aenqueue(7)).id
        await until(lambda: len(seen) == 2)
        await until(lambda: app.idle(scheduled=True))
    assert sorted(seen) == ["abc", "customer 7"]
    clean(app)


async def test_a_call_by_name_keeps_both_rules(app: StreamQ, url: str) -> None:
    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer", "what")))
    async def sync(customer: str, what: str) -> None: ...

    sync.enqueue("acme", "contacts")
    other = StreamQ("shop", url)
    handles = [
        other.send("sync", {"customer": "acme", "what": "contacts"}),
        other.send("sync", {"customer": "acme", "what": "contacts"}, lane="acme"),
        await other.asend("sync", {"customer": "acme", "what": "contacts"}, lane="acme"),
    ]
    assert [one.duplicate for one in handles] == [True, True, True]
    again = other.send("sync", {"customer": "acme", "what": "invoices"})
    own = other.send("sync", {"customer": "acme", "what": "invoices"}, lane="acme", unique="mine")
    free = other.send("sync", {"customer": "acme", "what": "invoices"}, lane="acme", unique=False)
    assert [one.duplicate for one in (again, own, free)] == [False, False, False]
    assert [lane.parked for lane in app.inspector.lanes("sync")] == [3]
    assert len(app.inspector.locks("sync")) == 3
    await other.aclose()


def test_a_program_without_the_code_is_told_nothing_of_types_without_a_rule(app: StreamQ, url: str) -> None:
    @app.task(lane=Lane("customer", running=1))
    async def sync(customer: str) -> None: ...

    sync.enqueue("acme")
    handle = StreamQ("shop", url).send("sync", {"customer": "acme"}, lane="acme")
    assert (handle.status(), app.inspector.locks("sync")) == ("parked", [])


# -- several shards -------------------------------------------------------------------------------------


def _shards(handles: list[Any]) -> int:
    return len({one.id.split(":")[1] for one in handles})


def test_a_key_and_its_lane_have_one_home(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer", "what")))
    async def sync(customer: str, what: int) -> None: ...

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("what",)), name="apart")
    async def apart(customer: str, what: int) -> None: ...

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer",)), throttle="1h", name="rare")
    async def rare(customer: str) -> None: ...

    handles = [sync.enqueue("acme", n) for n in range(8)]
    assert (_shards(handles), app.inspector.type_stats("sync").parked) == (1, 7)
    assert _shards([sync.enqueue(f"customer {n}", 1) for n in range(20)]) > 1
    assert sync.enqueue("acme", 3).duplicate
    # The key says nothing of the lane, so one shard has them all.
    handles = [apart.enqueue(f"customer {n}", n % 2) for n in range(8)]
    assert (_shards(handles), sum(not one.duplicate for one in handles)) == (1, 2)
    assert [rare.enqueue(f"customer {n % 8}").duplicate for n in range(16)] == [False] * 8 + [True] * 8
    assert rare.enqueue("customer 1").id.split(":")[1] == _home(app, "customer 1")
    clean(app)


def _home(app: StreamQ, lane: str) -> str:
    """The shard of a lane of `sync`."""
    task: Any = app.registry.handlers["sync"]
    return app.enqueue_many([app.bound(task.name, {"customer": lane, "what": 9})])[0].id.split(":")[1]


def test_what_has_two_homes_is_refused(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(lane=Lane("customer", running=1), unique=Unique(by=("customer",)))
    async def sync(customer: str) -> None: ...

    sync.enqueue("acme")
    for call in (sync.options(unique="text"), sync.options(lane="other")):
        with pytest.raises(
            InvalidOption, match="a unique key and a lane exclude each other where an app has sev"
        ):
            call.enqueue("acme")
    with pytest.raises(
        InvalidOption, match="a unique key and a lane exclude each other where an app has sev"
    ):
        StreamQ("shop", url, shards=4).send("sync", {"customer": "acme"}, lane="acme", unique="x")
    assert StreamQ("shop", url, shards=1).registry.shards == 1


def test_a_throttle_needs_no_lane_to_work_in_several_shards(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(unique=Unique(by=("customer",)), throttle="1h")
    async def remind(customer: int) -> None: ...

    assert [remind.enqueue(n % 4).duplicate for n in range(8)] == [False] * 4 + [True] * 4
    handle = remind.options(unique=False, idempotency_key="order-7").enqueue(1)
    assert remind.options(unique=False, idempotency_key="order-7").enqueue(1).id == handle.id


def test_errors_name_the_holder_that_waits(app: StreamQ) -> None:
    @app.task(running=1, unique=Unique(by=("customer",), on_conflict="raise"))
    async def sync(customer: int) -> None: ...

    sync.enqueue(1)
    waiting = sync.enqueue(2)
    assert waiting.status() == "parked"
    with pytest.raises(UniqueConflict, match="holds the unique key"):
        sync.enqueue(2)
    assert waiting.cancel() == "cancelled"
    assert not sync.enqueue(2).duplicate


def test_a_sender_by_name_in_several_shards_meets_the_lock(url: str) -> None:
    app = StreamQ("shop", url, shards=4)

    @app.task(running=1, unique=True)
    async def sync(customer: str) -> None: ...

    @app.task(lane=Lane("customer"), unique=True)
    async def mail(customer: str) -> None: ...

    first = sync.enqueue("acme"), mail.enqueue("acme")
    for shard in range(4):  # as a worker does
        app._client.drive(flows.register(app.registry, "mail", shard))
    other = StreamQ("shop", url, shards=4)
    assert [other.send(name, {"customer": "acme"}) for name in ("sync", "mail")] == list(first)
