"""Workers of so many types that they wait for the doorbell: nothing is missed, whoever enqueued it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from streamq import StreamQ, WorkerOptions
from streamq.calls import worker as worker_calls
from streamq.keys import shard_keys, type_keys
from streamq.worker.doorbell import MANY, Doorbell
from tests.conftest import command
from tests.running import OPTIONS, clean, serving, until, working

TYPES = MANY + 8
WAITING = WorkerOptions(concurrency=10, drain_timeout=5, block=5, heartbeat=5)
"""Nothing but the doorbell makes such a worker look within the time of a test."""


def _types(app: StreamQ, ran: list[str], count: int = TYPES) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for n in range(count):
        name = f"type{n:04d}"

        async def handler(fail: bool = False, *, name: str = name) -> None:
            ran.append(name)
            if fail and ran.count(name) == 1:
                raise ValueError

        types[name] = app.task(name=name, retention=60)(handler)
    return types


def _rung(app: StreamQ) -> tuple[object, object]:
    s = shard_keys(app.name, 0)
    url = str(app.address)
    return command(url, "ZCARD", s.ready), command(url, "ZCARD", s.bell)


async def test_every_way_to_become_ready_rings(app: StreamQ) -> None:
    ran: list[str] = []
    known = _types(app, ran)
    one, two, three, four = (known[f"type{n:04d}"] for n in (3, 17, 30, 39))
    async with serving(app, WAITING) as worker:
        assert worker.parts.shard_fetchers._fetchers[0]._doorbell is not None
        await asyncio.sleep(0.1)
        for priority in ("low", "normal", "high"):
            await (await one.options(priority=priority).aenqueue()).aresult(10)
        await (await two.options(delay=0.1).aenqueue()).aresult(10)  # promoted
        await (await three.options(max_attempts=1).aenqueue(fail=True)).astatus()
        await until(lambda: app.inspector.type_stats("type0030").dead == 1)
        assert await asyncio.to_thread(app.admin.requeue_type, "type0030") == 1
        await until(lambda: ran.count("type0030") == 2)
        later = await four.options(delay=60).aenqueue()
        assert await asyncio.to_thread(app.admin.run_now, later.id)
        await later.aresult(10)
    assert _rung(app) == (0, 0)
    clean(app)


async def test_a_backlog_of_before_and_equal_shares(app: StreamQ) -> None:
    """What was enqueued before the doorbell was in use is found at the start."""
    ran: list[str] = []
    known = _types(app, ran)
    for name in ("type0001", "type0020"):
        await app.aenqueue_many([known[name].bind() for _ in range(500)])
    await known["type0030"].aenqueue()
    async with working(app, WorkerOptions(concurrency=3, block=5)):
        await until(lambda: len(ran) >= 600, limit=30)
        started = Counter(ran[:600])
        assert started["type0030"] == 1
        assert abs(started["type0001"] - started["type0020"]) <= 60
        await until(lambda: len(ran) == 1001, limit=30)
    assert _rung(app) == (0, 0)
    clean(app)


@pytest.mark.parametrize("busy", [False, True])
async def test_what_an_older_release_enqueues_is_not_missed(app: StreamQ, busy: bool) -> None:
    """Its script does not ring. Idle workers see it at once, busy ones within a second or three."""
    ran: list[str] = []
    known = _types(app, ran)
    keys = type_keys(app.name, 0, "type0022")
    async with working(app, WAITING):
        stop = asyncio.Event()

        async def traffic() -> None:
            while not stop.is_set():
                await (await known["type0001"].aenqueue()).aresult(5)

        running = asyncio.create_task(traffic()) if busy else None
        await asyncio.sleep(0.3)
        command(str(app.address), "XADD", keys.normal, "*", "p", "{}")
        await until(lambda: "type0022" in ran, limit=4.5 if busy else 3.5)
        stop.set()
        if running:
            await running


async def test_a_worker_is_woken_for_its_own_types_beside_others(app: StreamQ, url: str) -> None:
    """Whoever is woken for a type that it does not serve passes it on; nobody turns for ever."""
    ran: list[str] = []
    known = _types(app, ran, 2 * TYPES)
    names = list(known)
    halves = [tuple(names[:TYPES]), tuple(names[TYPES:])]
    options = [
        WorkerOptions(concurrency=2, drain_timeout=5, block=5, heartbeat=5, types=half) for half in halves
    ]
    async with working(app, options[0]), working(app, options[0]), working(app, options[1]):
        await asyncio.sleep(0.2)
        for n in range(6):
            await (await known[halves[n % 2][n]].aenqueue()).aresult(10)
    stray = await known[names[-1]].aenqueue()
    async with working(app, options[0]):
        await asyncio.sleep(0.3)
        before = command(url, "INFO", "stats")
        await asyncio.sleep(1)
        after = command(url, "INFO", "stats")
        assert _commands(after) - _commands(before) < 100
        assert await stray.astatus() == "ready"


def _commands(info: Any) -> int:
    text = info.decode() if isinstance(info, bytes) else str(info)
    [line] = [line for line in text.splitlines() if line.startswith("total_commands_processed")]
    return int(line.partition(":")[2])


async def test_a_paused_type_is_found_when_it_is_resumed(app: StreamQ) -> None:
    ran: list[str] = []
    known = _types(app, ran)
    async with working(app, WAITING) as worker:
        await asyncio.to_thread(app.admin.pause, "type0005")
        await until(lambda: worker.parts.shard_fetchers._fetchers[0].is_paused("type0005"))
        handle = await known["type0005"].aenqueue()
        await (await known["type0006"].aenqueue()).aresult(10)
        assert await handle.astatus() == "ready"
        await asyncio.to_thread(app.admin.resume, "type0005")
        await handle.aresult(10)
    clean(app)


async def test_an_emptied_server_is_survived(app: StreamQ) -> None:
    ran: list[str] = []
    known = _types(app, ran)
    async with working(app, OPTIONS):
        await (await known["type0001"].aenqueue()).aresult(10)
        command(str(app.address), "FLUSHALL")
        await (await known["type0002"].aenqueue()).aresult(10)


async def test_without_the_right_to_wait_for_the_bell_every_stream_is_read(app: StreamQ) -> None:
    """As with the users that were made for the release before."""
    ran: list[str] = []
    known = _types(app, ran)
    s = shard_keys(app.name, 0)
    command(str(app.address), "SET", s.ready, "something else")
    async with working(app, OPTIONS) as worker:
        await until(lambda: worker.parts.shard_fetchers._fetchers[0]._doorbell is None)
        command(str(app.address), "DEL", s.ready)
        await (await known["type0001"].aenqueue()).aresult(5)


async def test_few_types_are_read_without_the_doorbell(app: StreamQ) -> None:
    """And who enqueues for them does not pay for it."""
    ran: list[str] = []
    known = _types(app, ran, MANY)
    async with working(app, WAITING) as worker:
        assert worker.parts.shard_fetchers._fetchers[0]._doorbell is None
        await (await known["type0001"].aenqueue()).aresult(10)
    s = shard_keys(app.name, 0)
    assert command(str(app.address), "EXISTS", s.doorbell, s.ready, s.bell) == 0


@pytest.mark.parametrize(("types", "seconds"), [(TYPES, 1.0), (250, 1.0), (500, 2.0), (2000, 3.0)])
def test_how_often_is_looked_for_what_did_not_ring(app: StreamQ, types: int, seconds: float) -> None:
    """Each second, where that takes the server no more than a thousandth of its time."""
    transport = app._client.transport

    async def ask(asked: Any, _longest: float) -> list[Any]:
        return [transport.run(call) for call in asked]

    keys = [type_keys(app.name, 0, f"type{n:04d}") for n in range(types)]
    bell = Doorbell(shard_keys(app.name, 0), keys, ask)

    async def next_look() -> float:
        await bell.watch()  # the first looks at once
        bell._next_watch = 0
        await bell.watch()
        return bell.seconds_to_watch

    assert seconds - 0.9 < asyncio.run(next_look()) <= seconds


def test_the_watch_is_one_worker_s(app: StreamQ) -> None:
    s = shard_keys(app.name, 0)
    run = app._client.transport.run

    def watch(*, found: bool = False, force: bool = False) -> int:
        return run(worker_calls.watch(s, found=found, force=force))

    assert watch() == 0
    assert 0 < watch() <= 3000
    assert watch(force=True) == 0
    assert 0 < watch(found=True) <= 1000
