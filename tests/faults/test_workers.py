"""Workers among blocked loops and restarts, and entries that nobody sound has written."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamq import Daemon, StreamQ, WorkerOptions, envelope
from streamq.embedded import EmbeddedServer
from streamq.keys import GROUP
from streamq.transport.server_wait import wait_until_ready
from streamq.worker.leases import LeaseKeeper
from streamq.worker.server_epochs import ServerEpochs
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.faults.proof import both, judged, limit
from tests.ports import free_port
from tests.running import QUICK, clean, until, working

STREAM = "streamq:{shop:0}:work:normal"
CALM = WorkerOptions(concurrency=5, block=0.5, heartbeat=60, drain_timeout=5)
"""A worker of which hardly anything is heard but what a test makes it say."""


# -- leases --------------------------------------------------------------------------------------------


@both
async def test_a_handler_that_blocks_the_loop_for_some_leases_keeps_its_task(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: everything that the event loop does stands still. Guard: leases are renewed by a thread of their
    own, on a connection of its own."""
    runs: list[float] = []

    @app.task(lease=1.5)
    async def blocks() -> None:
        runs.append(time.monotonic())
        if len(runs) == 1:
            time.sleep(6 if guarded else 3)  # noqa: ASYNC251 - that is the point

    if not guarded:
        monkeypatch.setattr(LeaseKeeper, "renew_all", lambda self: None)
    daemon = Daemon(app.address, QUICK)
    thread = threading.Thread(target=lambda: asyncio.run(daemon.run()))
    thread.start()
    try:
        async with working(app):
            handle = await blocks.aenqueue()
            await handle.aresult(25)
    finally:
        daemon._stop.set()
        thread.join()
    counters = app.inspector.type_stats("blocks").counters
    with judged(guarded):
        assert counters.get("reclaimed", 0) == 0
        assert len(runs) == 1


# -- the server restarts -------------------------------------------------------------------------------


async def test_after_a_restart_the_settler_asks_for_what_it_holds_and_settles_it(tmp_path: Path) -> None:
    """L01, R04: the server comes back with its append-only file while deliveries are in hand: each is settled
    once, and none runs again. (Its scripts are gone: NOSCRIPT.)"""
    runs: list[int] = []
    release = asyncio.Event()
    with EmbeddedServer(data_dir=tmp_path, config={"appendfsync": "always"}) as server:
        app = StreamQ("shop", server.url)

        @app.task(lease=60)
        async def work(n: int) -> int:
            runs.append(n)
            await release.wait()
            return n

        async with working(app, CALM):
            handles = [await work.aenqueue(n) for n in range(5)]
            await until(lambda: len(runs) == 5)
            server.stop()
            release.set()
            await asyncio.sleep(0.1)  # the settler meets a dead server
            server.start()
            assert [await handle.aresult(10) for handle in handles] == list(range(5))
        assert sorted(runs) == list(range(5))
        clean(app)
        assert app.inspector.type_stats("work").counters["completed"] == 5
        await app.aclose()


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Proxy]]:
    """A server that forgets everything when it restarts, on a port, and a proxy before it."""
    port = free_port()
    with EmbeddedServer(data_dir=tmp_path, port=port, config={"appendonly": "no", "save": ""}) as server:
        proxy = Proxy(port)
        yield server, proxy
        proxy.close()


@both
@pytest.mark.parametrize("when", ["while it was away", "after it was back"])
async def test_a_delivery_whose_id_is_anothers_now_is_not_settled(
    restartable: tuple[EmbeddedServer, Proxy], guarded: bool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L01: a server that lost its tail gives an entry's id to another task, and XACK asks nobody who he is.
    Guard: a call is sent only to the incarnation of the server where the deliveries are known to be ours;
    whether the handler ends while the server is away or when all have long been connected again.

    The promise: a stale worker cannot write.
    """
    server, proxy = restartable
    app = StreamQ("shop", proxy.url)
    started, release = asyncio.Event(), asyncio.Event()
    if not guarded:
        monkeypatch.setattr(ServerEpochs, "of", lambda self, shard: None)
        monkeypatch.setattr(LeaseKeeper, "renew_all", lambda self: None)  # it would notice in time, by luck

    @app.task(lease=60)
    async def work() -> str:
        started.set()
        await release.wait()
        return "of the old task"

    async with working(app, CALM) as worker:
        await work.aenqueue()
        await started.wait()
        [held] = worker.parts.in_flight.snapshot(("work", 0))
        entry = held.delivery.place[1:]
        proxy.go_down()
        server.stop()
        server.start()
        command(server.url, "XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
        command(server.url, "XADD", STREAM, entry, "p", '{"another":1}')
        command(server.url, "XREADGROUP", "GROUP", GROUP, "another", "STREAMS", STREAM, ">")
        if when == "while it was away":
            release.set()
            await until(lambda: held.done)
            proxy.come_back()
        else:
            proxy.come_back()
            await wait_until_ready(worker._config.transport)
            release.set()
        await until(lambda: len(worker.parts.in_flight) == 0)
        with judged(guarded):
            assert command(server.url, "XLEN", STREAM) == 1
            pending = command(server.url, "XPENDING", STREAM, GROUP, "-", "+", 10)
            assert [row[1] for row in pending] == [b"another"]  # type: ignore[attr-defined]
    await app.aclose()


# -- what others wrote -----------------------------------------------------------------------------------


@both
async def test_an_entry_with_no_sound_id_stops_no_worker(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result would have no key, and the batch that it was settled in failed as a whole. Guard: the codec
    takes only what streamq can have written."""
    if not guarded:
        monkeypatch.setattr(envelope, "LOCAL_PATTERN", re.compile(".*", re.DOTALL))

    @app.task(lease=60)
    async def work() -> int:
        return 1

    await work.aenqueue()
    command(str(app.address), "XADD", STREAM, "*", "p", "{}", "i", "no-id")
    good = await work.aenqueue()
    async with working(app, CALM):
        with judged(guarded):
            await until(lambda: app.inspector.type_stats("work").dead == 1, limit(guarded))
            assert await good.aresult(limit(guarded)) == 1
