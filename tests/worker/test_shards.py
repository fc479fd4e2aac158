"""Several shards on one server: nothing in the code may assume that there is only one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamq import Daemon, StreamQ, WorkerOptions
from streamq.app.bound_task import Bound
from streamq.control.inspector import apps
from streamq.keys import type_keys
from tests.conftest import command
from tests.letters import all_dead
from tests.running import QUICK, begun, clean, serving, until, working


async def test_tasks_spread_over_shards_run_promote_cancel_and_count(url: str) -> None:
    app = StreamQ("shop", url, shards=3)

    @app.task
    async def double(n: int) -> int:
        return n * 2

    async with serving(app):
        now = await app.aenqueue_many([double.bind(n) for n in range(30)])
        later = await app.aenqueue_many([double.options(delay=0.1).bind(n) for n in range(30)])
        assert [await handle.aresult(10) for handle in now] == [n * 2 for n in range(30)]
        assert [await handle.aresult(10) for handle in later] == [n * 2 for n in range(30)]
        never = await app.aenqueue_many([double.options(delay="1h").bind(n) for n in range(3)])
        assert {await handle.acancel() for handle in never} == {"cancelled"}
    assert {handle.id.split(":")[1] for handle in now} == {"0", "1", "2"}
    counters = (await asyncio.to_thread(app.inspector.type_stats, "double")).counters
    assert (counters["accepted"], counters["completed"], counters["cancelled"]) == (63, 60, 3)
    clean(app)


async def test_dead_letters_of_all_shards_are_listed_and_requeued(url: str) -> None:
    app = StreamQ("shop", url, shards=3)
    fixed = False

    @app.task(max_attempts=1)
    async def work(n: int) -> int:
        if not fixed:
            raise ValueError(n)
        return n

    async with serving(app):
        handles = await app.aenqueue_many([work.bind(n) for n in range(12)])
        await until(lambda: app.inspector.type_stats("work").dead == 12)
        assert {str(letter.id) for letter in all_dead(app.inspector, "work")} == {
            handle.id for handle in handles
        }
        fixed = True
        assert app.admin.requeue_type("work") == 12
        assert [await handle.aresult(10) for handle in handles] == list(range(12))
    clean(app)


def number(app: StreamQ, shards: int) -> StreamQ:
    """A release of the app whose code has another number of shards."""
    return StreamQ(app.name, str(app.address), shards=shards)


def known(app: StreamQ) -> int:
    return apps(app._client.transport)["shop"].known


def numbers(release: StreamQ) -> Callable[[int], Bound[int]]:
    @release.task
    async def double(n: int) -> int:
        return n * 2

    return double.bind


async def test_more_shards_are_served_by_workers_that_run_and_fewer_are_given_up(app: StreamQ) -> None:
    """1 -> 4 -> 2 while a worker of the first release serves; at last nothing is left to serve but 2."""
    bind = numbers(app)
    more, fewer = number(app, 4), number(app, 2)
    bind_more, bind_fewer = numbers(more), numbers(fewer)
    slow = WorkerOptions(concurrency=10, block=0.5, heartbeat=60)  # told over the control channel
    async with serving(app, slow) as worker:
        before = [*await app.aenqueue_many([bind(n) for n in range(8)])]
        spread = await more.aenqueue_many([bind_more(n) for n in range(40)])
        assert {handle.id.split(":")[1] for handle in spread} == {"0", "1", "2", "3"}
        assert [await handle.aresult(5) for handle in before + spread] == [
            n * 2 for n in [*range(8), *range(40)]
        ]
        assert known(app) == 4
        fewer_handles = await fewer.aenqueue_many([bind_fewer(n) for n in range(10)])
        assert {handle.id.split(":")[1] for handle in fewer_handles} == {"0", "1"}
        await until(lambda: known(app) == 2)
        await until(lambda: sorted(worker.parts.shard_fetchers.shards) == [0, 1])
        assert await spread[3].aresult(5) == 6  # results of a shard that was given up stay
        # A producer of the release between is still there: nothing of what it sends is lost.
        late = await more.aenqueue_many([bind_more(n) for n in range(40)])
        assert {handle.id.split(":")[1] for handle in late} == {"0", "1", "2", "3"}
        assert [await handle.aresult(5) for handle in late] == [n * 2 for n in range(40)]
        by_sync = await asyncio.to_thread(more.enqueue_many, [bind_more(n) for n in range(4)])
        assert [await handle.aresult(5) for handle in by_sync] == [0, 2, 4, 6]
        await until(lambda: known(app) == 2)
    clean(app)


async def test_dead_letters_and_delayed_tasks_keep_their_shard(app: StreamQ) -> None:
    wide = number(app, 3)

    @wide.task(max_attempts=1)
    async def work(n: int) -> int:
        raise ValueError(n)

    handles = await wide.aenqueue_many([work.bind(n) for n in range(3)])
    later = await wide.aenqueue_many([work.options(delay="1h").bind(n) for n in range(3)])
    rounds = 0

    def counted(name: str) -> None:
        nonlocal rounds
        rounds += name == "retire"

    async with working(wide):
        await until(lambda: wide.inspector.type_stats("work").dead == 3)
    app.send("work", {"n": 0})
    daemon = Daemon(app.address, QUICK, after_round=counted)
    task = await begun(daemon)
    await until(lambda: rounds >= 3)
    assert known(app) == 3
    assert app.inspector.type_stats("work").dead == 3
    assert {str(letter.id) for letter in all_dead(app.inspector, "work")} == {h.id for h in handles}
    for handle in later:
        assert handle.cancel() == "cancelled"
    assert app.admin.purge_type("work") == 3
    rounds = 0
    await until(lambda: rounds >= 3)
    assert known(app) == 3  # for a day it is known that the tasks were cancelled
    for shard in range(3):
        command(str(app.address), "DEL", f"streamq:{{shop:{shard}}}:work:gone")
    await until(lambda: known(app) == 1)
    daemon.stop()
    await task


async def test_a_type_that_is_paused_is_paused_in_shards_that_come_later(app: StreamQ) -> None:
    """And where it is taken up again after they were given up, nothing of it is left in them."""
    bind, wide = numbers(app), number(app, 3)
    bind_wide = numbers(wide)
    await app.aenqueue_many([bind(0)])
    slow = WorkerOptions(concurrency=10, block=0.5, heartbeat=60)
    async with serving(app, slow) as worker:
        await asyncio.to_thread(app.admin.pause, "double")
        await until(lambda: worker.parts.shard_fetchers.is_paused(type_keys("shop", 0, "double")))
        handles = await wide.aenqueue_many([bind_wide(n) for n in range(9)])
        await until(lambda: sorted(worker.parts.shard_fetchers.shards) == [0, 1, 2])
        assert all(worker.parts.shard_fetchers.is_paused(type_keys("shop", n, "double")) for n in range(3))
        assert [await handle.astatus() for handle in handles] == ["ready"] * 9
        await asyncio.to_thread(app.admin.resume, "double")
        assert [await handle.aresult(5) for handle in handles] == [n * 2 for n in range(9)]
        await asyncio.to_thread(app.admin.pause, "double")
        await number(app, 1).asend("double", {"n": 1})
        await until(lambda: known(app) == 1)
        await asyncio.to_thread(app.admin.resume, "double")
        again = await wide.aenqueue_many([bind_wide(n) for n in range(3)])
        assert [await handle.aresult(5) for handle in again] == [0, 2, 4]
    clean(app)


async def test_an_emptied_server_learns_of_the_app_again_from_its_workers(app: StreamQ) -> None:
    wide = number(app, 2)
    bind = numbers(wide)
    async with serving(wide):
        command(str(app.address), "FLUSHALL")
        await until(lambda: "shop" in apps(app._client.transport))
        assert known(app) == 2
        handles = await wide.aenqueue_many([bind(n) for n in range(4)])
        assert [await handle.aresult(10) for handle in handles] == [0, 2, 4, 6]
