"""The daemon against real servers: promptness, waking, discovery, repair, idleness."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from streamq import Daemon, StreamQ, WorkerOptions
from streamq.daemon import claimer
from streamq.keys import type_keys
from streamq.options.service import DaemonOptions
from tests.conftest import command
from tests.running import QUICK, begun, clean, serving, tending, until, working


async def test_delayed_tasks_run_when_they_are_due_and_not_before(app: StreamQ) -> None:
    late: list[float] = []

    @app.task
    async def note(due: float) -> None:
        late.append(time.time() - due)

    async with serving(app):
        for n in range(20):
            due = time.time() + 0.2 + n * 0.02
            await note.options(at=datetime.fromtimestamp(due, UTC)).aenqueue(due)
        await until(lambda: len(late) == 20)
    assert min(late) > -0.002  # ms are rounded
    assert sorted(late)[10] < 2


async def test_an_earlier_task_wakes_the_promoter(app: StreamQ) -> None:
    """Guard: the wake channel. The promoter sleeps until the next due time, an hour ahead."""
    ran = asyncio.Event()

    @app.task
    async def note() -> None:
        ran.set()

    async with serving(app):
        await note.options(delay="1h").aenqueue()
        await asyncio.sleep(0.2)  # it has gone to sleep
        await note.options(delay=0.1).aenqueue()
        async with asyncio.timeout(15):
            await ran.wait()


async def test_an_app_that_comes_later_is_served(url: str) -> None:
    options = DaemonOptions(discover_interval=60, claim_interval=0.2, tidy_interval=60)
    daemon = Daemon(StreamQ("other", url).address, options)
    task = asyncio.create_task(daemon.run())
    await daemon.ready.wait()
    app = StreamQ("newcomer", url)
    ran = asyncio.Event()

    @app.task
    async def note() -> None:
        ran.set()

    async with working(app):
        await note.options(delay=0.1).aenqueue()
        async with asyncio.timeout(15):
            await ran.wait()
    daemon.stop()
    await task


async def test_entries_that_no_read_would_find_are_found(app: StreamQ) -> None:
    done: list[int] = []

    @app.task
    async def work(n: int) -> None:
        done.append(n)
        await asyncio.sleep(0)

    handle = await work.aenqueue(1)
    stream = "streamq:{shop:0}:work:normal"
    command(str(app.address), "XGROUP", "CREATE", stream, "workers", "0")
    command(str(app.address), "XREADGROUP", "GROUP", "workers", "x", "STREAMS", stream, ">")
    command(str(app.address), "XGROUP", "DELCONSUMER", stream, "workers", "x")
    async with serving(app):
        await handle.aresult(5)
    assert done == [1]
    assert app.inspector.type_stats("work").counters["repaired"] == 1
    clean(app)


async def test_the_daemon_survives_hostile_names_and_rows(url: str) -> None:
    app = StreamQ("shop", url)
    command(
        url,
        "HSET",
        "streamq:apps",
        "a{b}:c",
        "{}",
        "bad",
        b"\xff",
        "many",
        '{"shards":99999999}',
        "shop",
        "[]",
    )
    command(url, "SADD", "streamq:{shop:0}:types", "a b", "{}", b"fine")
    command(url, "ZADD", "streamq:{shop:0}:work:schedule", 1, b"\x00garbage")
    command(url, "PUBLISH", "streamq:{x}:wake", "y")

    @app.task
    async def work() -> int:
        return 1

    async with serving(app):
        assert await (await work.options(delay=0.05).aenqueue()).aresult(5) == 1


async def test_a_type_with_keys_of_another_kind_keeps_no_other_from_being_served(url: str) -> None:
    """Guard: types that are looked at in one call are looked at one by one where the call fails."""
    app = StreamQ("shop", url)
    command(url, "SADD", "streamq:{shop:0}:types", "a-broken", "z-broken")
    for name in ("a-broken", "z-broken"):
        command(url, "SET", type_keys("shop", 0, name).counters, "no hash")
        command(url, "SET", type_keys("shop", 0, name).schedule, "no sorted set")

    @app.task
    async def work() -> int:
        return 1

    chore_status: list[str] = []
    options = replace(QUICK, sample_interval=0.1)
    daemon = Daemon(app.address, options, after_round=chore_status.append)
    task = await begun(daemon)
    async with working(app):
        assert await (await work.options(delay=0.05).aenqueue()).aresult(5) == 1
        sampled = type_keys("shop", 0, "work").sampled
        await until(lambda: command(url, "EXISTS", sampled) == 1)
        await work.aenqueue()
        await until(lambda: any(row.counts.get("accepted") for row in app.inspector.rollups("work")))
    daemon.stop()
    await task
    assert {"promote", "sample"} <= set(chore_status)


async def test_a_clock_jump_reclaims_nothing(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: the expected clock. A claimer that believes the clock would take every lease at once."""
    release = asyncio.Event()

    @app.task(lease=3)
    async def work() -> int:
        await release.wait()
        return 1

    chore_status = 0

    def counted(name: str) -> None:
        nonlocal chore_status
        chore_status += name == "reclaim"

    true = claimer.Claimer._expected
    monkeypatch.setattr(claimer.Claimer, "_expected", lambda *args: true(*args) and true(*args) - 7_200_000)
    daemon = Daemon(app.address, QUICK, after_round=counted)
    task = asyncio.create_task(daemon.run())
    try:
        async with working(app):
            handle = await work.aenqueue()
            await until(lambda: chore_status > 8)
            release.set()
            assert await handle.aresult(5) == 1
    finally:
        daemon.stop()
        await task
    assert app.inspector.type_stats("work").counters.get("reclaimed", 0) == 0


async def test_an_idle_queue_costs_next_to_nothing(app: StreamQ) -> None:
    """Less than one command a second for each process, with the default settings."""

    @app.task
    async def work() -> None: ...

    def commands() -> int:
        info = command(str(app.address), "INFO", "commandstats")
        assert isinstance(info, bytes)
        rows = [
            line
            for line in info.splitlines()
            if line.startswith(b"cmdstat_evalsha:") or b"xreadgroup" in line
        ]
        rows += [
            line
            for line in info.splitlines()
            if line.startswith((b"cmdstat_hgetall", b"cmdstat_smembers", b"cmdstat_ping"))
        ]
        return sum(int(line.split(b"calls=")[1].split(b",")[0]) for line in rows)

    async with tending(app, DaemonOptions()), working(app, WorkerOptions()):
        await (await work.aenqueue()).aresult(5)
        await asyncio.sleep(1)  # the first rounds of everything
        before, began = commands(), time.monotonic()
        await asyncio.sleep(8)
        rate = (commands() - before) / (time.monotonic() - began)
    print(f"{rate:.2f} commands a second for a worker and a daemon")
    assert rate < 2


async def test_two_daemons_promote_each_task_once(app: StreamQ) -> None:
    ran: list[str] = []

    @app.task
    async def note(n: int) -> None:
        ran.append(str(n))

    async with tending(app), serving(app):
        moment = datetime.now(UTC) + timedelta(seconds=0.3)
        await app.aenqueue_many([note.options(at=moment).bind(n) for n in range(500)])
        await until(lambda: len(ran) >= 500)
        await asyncio.sleep(0.2)
    assert len(ran) == len(set(ran)) == 500
    clean(app)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_daemon_leaves_nothing_behind(app: StreamQ, times: int) -> None:
    """Its chores went on, its subscription stayed open, and cancelled twice it stayed in the list."""
    app.task(name="any")(lambda: None)
    await app.asend("any")
    before = asyncio.all_tasks()
    daemon = Daemon(app.address, QUICK)
    task = await begun(daemon)
    await until(lambda: [one.name for one in app.inspector.daemons()] == [daemon.name])
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert app.inspector.daemons() == []
    connected = str(command(str(app.address), "CLIENT", "LIST"))
    assert connected.count("cmd=subscribe") == 0
