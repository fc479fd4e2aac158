"""Any number of waiters on few connections: who waits is told, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections import Counter
from typing import Any

import pytest

from streamq import FlowCancelled, RedisUnavailable, ResultTimeout, StreamQ, UsageError, WorkerOptions
from streamq.client import flow_waits
from streamq.embedded import EmbeddedServer
from streamq.keys import shard_keys, type_keys
from streamq.transport import wire
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.running import until, wait_until, working

WAITERS = 400
FEW = 3
"""Connections to a shard: what calls share, the questions of waiters, and their subscription."""


def shop(url: str, **options: Any) -> StreamQ:
    app = StreamQ("shop", url, **options)

    @app.task
    async def work(n: int) -> int:
        return n

    return app


def connections(url: str) -> Counter[str]:
    """How many the server has, by the last command of each, but for our own."""
    listed = command(url, "CLIENT", "LIST")
    assert isinstance(listed, bytes)
    rows = [dict(pair.split("=", 1) for pair in row.split(" ")) for row in listed.decode().splitlines()]
    return Counter(row["cmd"] for row in rows if not row["cmd"].startswith("client"))


@pytest.fixture(autouse=True)
def alone(url: str) -> None:
    """Connections that earlier tests have left on the server are none of ours to count."""
    for kind in ("normal", "pubsub"):
        command(url, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def registered(url: str, app: StreamQ) -> int:
    found = command(url, "ZCARD", type_keys(app.name, 0, "work").waiters)
    assert isinstance(found, int)
    return found


async def test_waiters_of_a_loop_share_three_connections(url: str) -> None:
    app = shop(url)
    handles = await app.aenqueue_many([app.bound("work", {"n": n}) for n in range(WAITERS)])
    waiting = [asyncio.create_task(handle.aresult(60)) for handle in handles]
    await until(lambda: registered(url, app) == WAITERS, 60)
    assert sum(connections(url).values()) <= FEW
    async with working(app):
        assert await asyncio.gather(*waiting) == list(range(WAITERS))


def subscribers(url: str, *channels: str) -> list[object]:
    found = command(url, "PUBSUB", "NUMSUB", *channels)
    assert isinstance(found, list)
    return found[1::2]


async def test_waits_for_flows_share_three_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are woken by the flow's end, and do not look at it meanwhile. Plain code waits in a thread with as
    many."""
    monkeypatch.setattr(flow_waits, "FIRST_PAUSE", 60.0)
    app = shop(url)
    wf = app.flow("idle")
    wf.add(app.bound("work", {"n": 1}))
    handles = [await wf.astart() for _ in range(10)]
    await app.aclose()  # and with it the connections by which they were started
    waiting = [asyncio.create_task(handle.aresult(60)) for handle in handles * 100]
    threads = [asyncio.create_task(asyncio.to_thread(handle.result, 60)) for handle in handles[:3]]
    channels = [shard_keys(app.name, 0).flow_done(one.id.rpartition(":")[2]) for one in handles]
    await until(lambda: subscribers(url, *channels) == [2] * 3 + [1] * 7, 60)
    assert sum(connections(url).values()) <= 2 * FEW
    for handle in handles:
        await handle.acancel()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, *threads, return_exceptions=True), 2)
    assert {type(one) for one in ended} == {FlowCancelled}


async def test_a_wait_for_a_flow_that_is_told_nothing_looks_again(url: str) -> None:
    """As where a worker of an older release ends the flow."""
    app = shop(url)
    wf = app.flow("idle")
    wf.add(app.bound("work", {"n": 1}))
    handle = await wf.astart()
    waiting = asyncio.create_task(handle.aresult(60))
    s, flow = shard_keys(app.name, 0), handle.id.rpartition(":")[2]
    await until(lambda: subscribers(url, s.flow_done(flow)) == [1])
    command(url, "HSET", s.flow(flow), "state", "cancelled")
    with pytest.raises(FlowCancelled):
        await asyncio.wait_for(waiting, 10)


MANY_WAITERS = """
import asyncio, resource, sys
from streamq import StreamQ

async def main(url, number):
    app = StreamQ("shop", url)
    handles = await app.aenqueue_many([app.bound("work", {"n": n}) for n in range(number)])
    assert await asyncio.gather(*(one.aresult(100) for one in handles)) == list(range(number))
    await app.aclose()

resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("number", [1200, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.timeout(180)
async def test_there_may_be_more_waiters_than_open_files(url: str, number: int) -> None:
    app = shop(url)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", MANY_WAITERS, url, str(number))
    try:
        await until(lambda: registered(url, app) == number or process.returncode is not None, 100)
        assert sum(connections(url).values()) <= FEW
        async with working(app, WorkerOptions(concurrency=100, block=0.5)):
            assert await asyncio.wait_for(process.wait(), 100) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_waiters_are_told_and_look_in_few_round_trips(url: str) -> None:
    """Whoever is told at the same time asks at the same time."""
    app = shop(url)
    handles = await app.aenqueue_many([app.bound("work", {"n": n}) for n in range(WAITERS)])
    waiting = [asyncio.create_task(handle.aresult(60)) for handle in handles]
    batcher: Any = app._asyncs.current().waiting._batcher(0)
    trips = 0
    run_all = batcher._reader.run_all

    async def counted(asked: Any, **more: Any) -> Any:
        nonlocal trips
        trips += 1
        return await run_all(asked, **more)

    batcher._reader.run_all = counted
    await until(lambda: registered(url, app) == WAITERS, 60)
    assert trips <= WAITERS / 10
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await app.aclose()


def test_waiting_threads_share_three_connections(url: str) -> None:
    app = shop(url)
    handles = app.enqueue_many([app.bound("work", {"n": n}) for n in range(100)])
    results: dict[int, int] = {}

    def wait(n: int) -> None:
        results[n] = handles[n].result(60)

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    wait_until(lambda: registered(url, app) == 100)
    assert sum(connections(url).values()) <= FEW + 1  # who looked first had one of his own

    async def serve() -> None:
        async with working(app):
            await until(lambda: len(results) == 100, 60)

    asyncio.run(serve())
    for thread in threads:
        thread.join()
    assert results == {n: n for n in range(100)}


@pytest.mark.parametrize("question", ["astatus", "acancel", "aconnect"])
async def test_questions_share_a_bounded_set_of_connections(url: str, question: str) -> None:
    app = shop(url)
    handle = await app.asend("work", {"n": 1})
    asked = app.aconnect if question == "aconnect" else getattr(handle, question)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, sum((await asyncio.to_thread(connections, url)).values()))

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(asked() for _ in range(WAITERS)))
    watching.cancel()
    assert max(most, sum(connections(url).values())) <= wire.MAX_CONNECTIONS + FEW


def test_questions_of_threads_share_a_bounded_set_of_connections(url: str) -> None:
    app = shop(url)
    handle = app.send("work", {"n": 1})
    begin = threading.Barrier(100)

    def ask() -> None:
        begin.wait()
        for _ in range(5):
            handle.status()
            app.inspector.types()

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(connections(url).values()) <= wire.MAX_CONNECTIONS


async def test_a_cancelled_waiter_leaves_nothing_behind(url: str) -> None:
    app = shop(url)
    handle, other = await app.asend("work", {"n": 1}), await app.asend("work", {"n": 2})
    waiting = [asyncio.create_task(handle.aresult(60)) for _ in range(20)]
    stays = asyncio.create_task(other.aresult(60))
    await until(lambda: registered(url, app) == 2)

    def channels() -> object:
        return len(command(url, "PUBSUB", "CHANNELS", "streamq:*:done:*"))  # type: ignore[arg-type]

    assert channels() == 2
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await until(lambda: channels() == 1)
    waiting_here = app._asyncs.current().waiting
    assert len(waiting_here._listener) == 1
    async with working(app):
        assert await stays == 2
    await until(lambda: channels() == 0)


async def test_a_lost_subscription_wakes_every_waiter(url: str) -> None:
    app = shop(url)
    handles = await app.aenqueue_many([app.bound("work", {"n": n}) for n in range(50)])
    waiting = [asyncio.create_task(handle.aresult(60)) for handle in handles]
    await until(lambda: registered(url, app) == 50)
    for _ in range(3):
        command(url, "CLIENT", "KILL", "TYPE", "pubsub")
    command(url, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    async with working(app):
        async with asyncio.timeout(4):  # before each would have looked again by itself
            assert await asyncio.gather(*waiting) == list(range(50))


async def test_a_message_that_nobody_sent_is_made_up_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is found at the next look."""
    monkeypatch.setattr("streamq.client.waiting.LOOK_AGAIN", 0.3)
    app, end = StreamQ("shop", url), asyncio.Event()

    @app.task
    async def work() -> int:
        await end.wait()
        return 1

    async with working(app):
        waiting = asyncio.create_task((await app.asend("work")).aresult(20))
        await until(lambda: registered(url, app) == 1)
        end.set()
        command(url, "DEL", type_keys("shop", 0, "work").waiters)
        assert await waiting == 1


@pytest.mark.parametrize("kind", ["loop", "threads"])
async def test_waiters_outlast_an_outage_until_their_deadline(
    tcp: tuple[EmbeddedServer, int], proxy: Proxy, kind: str
) -> None:
    app, direct = shop(proxy.url, patience=0.2), shop(tcp[0].url)
    handles = await direct.aenqueue_many([direct.bound("work", {"n": n}) for n in range(20)])
    mine = [app.handle(handle.id) for handle in handles]
    waiting = [
        asyncio.create_task(one.aresult(30) if kind == "loop" else asyncio.to_thread(one.result, 30))
        for one in mine
    ]
    await until(lambda: registered(tcp[0].url, app) >= 5)  # there may be no more threads
    proxy.go_down()
    await asyncio.sleep(1)  # longer than the patience of a call
    async with working(direct):
        await asyncio.gather(*(handle.aresult(20) for handle in handles))
        proxy.come_back()
        assert await asyncio.gather(*waiting) == list(range(20))


async def test_loops_and_threads_at_the_same_time(url: str) -> None:
    app = shop(url)
    handles = await app.aenqueue_many([app.bound("work", {"n": n}) for n in range(6)])

    async def elsewhere() -> list[int]:
        found = await asyncio.gather(*(handle.aresult(20) for handle in handles))
        await app._asyncs.aclose()
        return found

    loops = [asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere())) for _ in range(3)]
    plain = [asyncio.create_task(asyncio.to_thread(handle.result, 20)) for handle in handles]
    async with working(app):
        assert [await one for one in loops] == [list(range(6))] * 3
        assert [await one for one in plain] == list(range(6))


def test_a_child_waits_on_connections_of_its_own(url: str) -> None:
    app = shop(url)
    handle = app.send("work", {"n": 7})
    with pytest.raises(ResultTimeout):
        handle.result(0.3)  # the background thread is there
    child = os.fork()
    if child == 0:
        try:
            handle.result(0.3)
        except ResultTimeout:
            os._exit(17)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    with pytest.raises(ResultTimeout):
        handle.result(0.1)


def test_closing_ends_the_thread(url: str) -> None:
    app = shop(url)
    handle = app.send("work", {"n": 7})
    for _ in range(2):  # it can be used again
        with pytest.raises(ResultTimeout):
            handle.result(0.1)
        app.close()
        assert "streamq-waiting" not in {thread.name for thread in threading.enumerate()}
        wait_until(lambda: sum(connections(url).values()) == 0)


# -- why it has not ended -------------------------------------------------------------------------------


def said(handle: Any) -> str:
    with pytest.raises(ResultTimeout) as error:
        handle.result(0)
    return str(error.value)


async def asaid(handle: Any) -> str:
    with pytest.raises(ResultTimeout) as error:
        await handle.aresult(0)
    return str(error.value)


def test_nobody_serves_the_type(url: str) -> None:
    app = shop(url)
    handle = app.send("work", {"n": 1})
    text = said(handle)
    assert f"task {handle.id} has not ended yet: it has been ready for " in text
    assert "no worker that serves work is alive" in text
    assert "scheduled, due in 60 min" in said(app.send("work", {"n": 1}, delay=3600))


async def test_workers_of_other_types_only_and_a_paused_type(url: str) -> None:
    app, other = shop(url), StreamQ("shop", url)
    other.task(name="other")(lambda: None)
    handle = await app.asend("work", {"n": 1})
    async with working(other) as worker:
        await until(lambda: any(one.name == worker.name for one in app.inspector.workers()))
        assert "no worker that serves work is alive: 1 alive, of other types" in await asaid(handle)
        app.admin.pause("work")
        await asyncio.sleep(1.1)  # what was found is believed for a second
        assert "work is paused (streamq resume work)" in await asaid(handle)
        app.admin.resume("work")


async def test_a_task_that_runs(url: str) -> None:
    app, end = StreamQ("shop", url), asyncio.Event()

    @app.task
    async def work() -> None:
        await end.wait()

    handle = await app.asend("work")
    async with working(app) as worker:
        await until(lambda: any(one.details["running"] for one in app.inspector.workers()))
        text = await asaid(handle)
        assert "it has been running for " in text
        assert f"on worker {worker.name}" in text
        end.set()


def test_a_server_that_is_away_is_told_at_the_deadline() -> None:
    handle = StreamQ("shop", "redis://127.0.0.1:1/0", patience=0.2).handle("work:0:n1-0")
    with pytest.raises(
        ResultTimeout, match="it is unknown whether task work:0:n1-0 has ended: no connection"
    ):
        handle.result(0.2)
    with pytest.raises(RedisUnavailable):
        handle.result()


# -- plain calls in a loop ------------------------------------------------------------------------------


def refused_calls(app: StreamQ) -> dict[str, tuple[str, Any]]:
    """Plain calls, each with what to write instead."""
    handle = app.handle("other:0:n1-0")
    return {
        "result": ("await handle.aresult()", lambda: handle.result(5)),
        "status": ("await handle.astatus()", handle.status),
        "cancel": ("await handle.acancel()", handle.cancel),
        "stats": ("await app.ainspector.stats(…)", app.inspector.stats),
        "pause": ("await app.aadmin.pause(…)", lambda: app.admin.pause("other")),
        "connect": ("await app.aconnect()", app.connect),
        "idle": ("await app.aidle()", app.idle),
        "wait_idle": ("await app.await_idle()", lambda: app.wait_idle(5)),
    }


@pytest.mark.usefixtures("loops_are_guarded")
async def test_plain_calls_in_an_async_handler_are_refused_with_what_to_write(url: str) -> None:
    app = StreamQ("shop", url)
    calls = refused_calls(app)

    @app.task(max_attempts=1)
    async def refused(name: str) -> str:
        try:
            calls[name][1]()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "done"

    @app.task
    def plain() -> int:
        return len(app.inspector.types()) + len(app.handle("other:0:n1-0").status())

    @app.task
    async def allowed() -> str:
        await app.ainspector.stats()
        return app.send("other").id  # a round trip, after which the loop goes on

    async with working(app):
        for name, (instead, _) in calls.items():
            text = await (await app.asend("refused", {"name": name})).aresult(10)
            assert text.startswith("UsageError")
            assert "and its worker" in text
            assert text.endswith(f"write {instead}")
        assert await (await app.asend("plain")).aresult(10) > 0
        assert (await (await app.asend("allowed")).aresult(10)).startswith("other:")


@pytest.mark.usefixtures("loops_are_guarded")
async def test_plain_calls_are_refused_wherever_a_loop_runs(url: str) -> None:
    """In an endpoint of a web framework or in a notebook's cell, too; also where the task has ended."""
    app = shop(url)
    for instead, call in refused_calls(app).values():
        with pytest.raises(UsageError, match=f"write {re.escape(instead)}$"):
            call()
    handle = app.send("work", {"n": 1})  # a round trip, after which the loop goes on
    async with working(app):
        assert await handle.aresult(20) == 1
    with pytest.raises(UsageError, match="the event loop that runs in this thread"):
        handle.result(5)
    assert await asyncio.to_thread(handle.result, 5) == 1
