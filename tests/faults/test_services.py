"""Workers and daemons among blocked loops, restarts, lost replies and clocks that jump."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamq import Daemon, StreamQ, WorkerOptions, codec, scripts
from streamq.daemon import promoter
from streamq.embedded import EmbeddedServer
from streamq.inspector import TypeStats
from streamq.keys import GROUP
from streamq.transport import AsyncReader, SyncTransport, faults, wire
from streamq.worker.fetcher import Fetcher
from streamq.worker.leases import LeaseKeeper
from tests.client.proxy import Proxy
from tests.client.test_network import free_port
from tests.conftest import command
from tests.faults.proof import both, judged
from tests.running import QUICK, clean, serving, tending, until, wait_until, working
from tests.variant import CLOCK, changed, own_clock, without

STREAM = "streamq:{shop:0}:work:normal"
CALM = WorkerOptions(concurrency=5, block=0.5, heartbeat=60, drain_timeout=5)
"""A worker of which hardly anything is heard but what a test makes it say."""


# -- leases --------------------------------------------------------------------------------------------


@both
async def test_a_handler_that_blocks_the_loop_for_ten_leases_keeps_its_task(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: everything that the event loop does stands still. Guard: leases are renewed by a thread of their
    own, on a connection of its own."""
    runs: list[float] = []

    @app.task(lease=0.5)
    async def blocks() -> None:
        runs.append(time.monotonic())
        if len(runs) == 1:
            time.sleep(5 if guarded else 1.5)  # noqa: ASYNC251 - that is the point

    if not guarded:
        monkeypatch.setattr(LeaseKeeper, "renew_all", lambda self: None)
    daemon = Daemon(app.address, QUICK)
    thread = threading.Thread(target=lambda: asyncio.run(daemon.run()))
    thread.start()
    try:
        async with working(app):
            handle = await blocks.aenqueue()
            await handle.aresult(15)
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


# -- the network ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tcp() -> Iterator[tuple[EmbeddedServer, int]]:
    port = free_port()
    with EmbeddedServer(port=port) as server:
        yield server, port


@pytest.fixture
def proxy(tcp: tuple[EmbeddedServer, int]) -> Iterator[Proxy]:
    command(tcp[0].url, "FLUSHALL")
    found = Proxy(tcp[1])
    yield found
    found.close()


@both
def test_an_enqueue_whose_reply_is_lost(proxy: Proxy, guarded: bool) -> None:
    """Y01 to Y04, Y07: it is sent again. Guard: the writer's last call is remembered with its answer."""
    app = StreamQ("shop", proxy.url)
    forgetful = without("enqueue", "if last[1] == sequence then return last[2] end")
    with changed() if guarded else changed(forgetful), judged(guarded):
        app.send("email", {"n": 0})
        proxy.drop_replies(1)
        app.send("email", {"n": 1})
        assert app.inspector.type_stats("email").ready == 2


@both
async def test_a_settlement_whose_reply_is_lost(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], guarded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task is settled, and the worker must learn that it was by its own call. Guard: the writer's last
    call; without it the resent call finds nothing pending and takes the lease for lost."""
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)

    @app.task(lease=60)
    async def work(n: int) -> int:
        if n == 1:
            proxy.lose_reply_to(scripts.load("settle").sha.encode())
        return n

    forgetful = without("settle", "if last[1] == sequence then return last[2] end")
    with changed() if guarded else changed(forgetful):
        async with working(app, CALM) as worker:
            for n in (0, 1):
                handle = await direct.asend("work", {"n": n})
                await until(lambda handle=handle: handle.status() == "completed")  # type: ignore[misc]
            await until(lambda: len(worker._holdings) == 0)
    out = capsys.readouterr()
    assert "doing=settle" in out.out + out.err
    with judged(guarded):
        assert "task.lease_lost" not in out.out + out.err
    assert direct.inspector.type_stats("work").counters["completed"] == 2
    await direct.aclose()


@both
async def test_deliveries_that_never_arrived_are_handed_back(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y06, D01, D03: the server has delivered, the connection broke, and no read shows the entry again.
    Guard: after a failed read the worker hands back what is pending under its name and it never saw."""
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)
    if not guarded:

        async def nothing(self: Fetcher) -> None: ...

        monkeypatch.setattr(Fetcher, "_hand_back_unseen", nothing)

    @app.task(lease=60)
    async def work(n: int) -> int:
        return n

    async with working(app, CALM):
        await (await work.aenqueue(0)).aresult(5)
        await until(lambda: b"cmd=xreadgroup" in command(tcp[0].url, "CLIENT", "LIST"))  # type: ignore[operator]
        proxy.drop_replies(1)
        handle = await asyncio.to_thread(direct.send, "work", {"n": 1})
        with judged(guarded):
            await until(lambda: handle.status() == "completed", 2)
    await direct.aclose()


@both
async def test_a_read_that_is_never_answered_is_given_up(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C08, half-open connections: BLOCK follows the server's clock and its network. Guard: our own monotonic
    clock bounds every read; then the worker connects anew."""
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)
    monkeypatch.setattr(wire, "COMMAND_TIMEOUT", 0.3 if guarded else 60.0)

    @app.task(lease=60)
    async def work(n: int) -> int:
        return n

    async with working(app, CALM):
        await (await work.aenqueue(0)).aresult(5)
        proxy.stall(b"XREADGROUP")
        await until(lambda: proxy.stalled == 1)
        handle = await asyncio.to_thread(direct.send, "work", {"n": 1})
        with judged(guarded):
            await until(lambda: handle.status() == "completed", 3)
        proxy.go_down()
        proxy.come_back()
    await direct.aclose()


@both
async def test_a_read_may_block_for_longer_than_a_command_may_take(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Y05: a socket timeout below BLOCK ends every idle read. Guard: the time to block is added."""
    monkeypatch.setattr(wire, "COMMAND_TIMEOUT", 0.2)
    if not guarded:
        true = AsyncReader.run

        async def hasty(
            self: AsyncReader, call: Any, *, longest: float = 0.0, incarnation: str | None = None
        ) -> Any:
            return await true(self, call, incarnation=incarnation)

        monkeypatch.setattr(AsyncReader, "run", hasty)

    @app.task
    async def work() -> None: ...

    async with working(app, CALM):
        await asyncio.sleep(1.2)  # two idle reads of half a second
    out = capsys.readouterr()
    with judged(guarded):
        assert "redis.unavailable" not in out.out + out.err


@both
async def test_scripts_that_the_server_forgot_are_sent_again(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R04, R05, R07: scripts are neither replicated nor kept. Guard: on NOSCRIPT the same call goes with its
    text; it has not run."""

    @app.task
    async def work(n: int) -> int:
        return n

    def flush() -> None:
        command(str(app.address), "SCRIPT", "FLUSH")

    async with serving(app):
        await (await work.aenqueue(1)).aresult(5)
        flush()
        if not guarded:
            monkeypatch.setattr(wire, "by_text", wire.by_sha)
        with judged(guarded):
            try:
                flush()
                sync = await asyncio.to_thread(work.enqueue, 2)
                flush()
                assert await (await work.aenqueue(3)).aresult(3) == 3
                assert await sync.aresult(3) == 2
            except Exception as error:
                raise AssertionError from error
        monkeypatch.undo()


@both
async def test_a_server_that_refuses_writes_for_a_while_is_waited_for(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L02: with min-replicas-to-write even XACK is refused. Guard: NOREPLICAS and such are tried again."""
    url, runs = str(app.address), []
    if not guarded:
        monkeypatch.setattr(faults, "_TRANSIENT", ("LOADING",))

    @app.task(lease=60)
    async def work() -> str:
        runs.append(1)
        command(url, "CONFIG", "SET", "min-replicas-to-write", "1")
        return "done"

    try:
        async with working(app, CALM):
            handle = await work.aenqueue()
            await until(lambda: bool(runs))
            await asyncio.sleep(0.3)  # the outage
            command(url, "CONFIG", "SET", "min-replicas-to-write", "0")
            with judged(guarded):
                await until(lambda: handle.status() == "completed", 3)
    finally:
        command(url, "CONFIG", "SET", "min-replicas-to-write", "0")


def test_the_client_library_does_not_resend_and_replies_are_raw(app: StreamQ) -> None:
    """Y01, Y09, Y10: its own retries are off, the protocol is pinned and bytes stay bytes."""
    transport = SyncTransport(app.address)
    connection = transport.open(transport.discovered(None)).connection
    assert connection.retry._retries == 0
    assert int(connection.protocol) == 2
    assert connection.encoder.decode_responses is False
    connection.disconnect()


# -- daemons -------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_daemons_that_are_killed_in_the_middle_lose_nothing(app: StreamQ) -> None:
    """Promoting and reclaiming are one script each: whatever a daemon was doing, nothing is half done. Four
    are killed while they promote thousands and take back hundreds; then a worker does the rest."""
    url = str(app.address)

    @app.task(lease=0.2)
    async def work(n: int) -> None: ...

    app.enqueue_many([work.bind(n) for n in range(400)])
    command(url, "XGROUP", "CREATE", STREAM, GROUP, "0")
    command(url, "XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 400, "STREAMS", STREAM, ">")

    def stats() -> TypeStats:
        return app.inspector.type_stats("work")

    for _ in range(4):
        app.enqueue_many([work.options(delay=0.001).bind(n) for n in range(2000)])
        before = stats().scheduled
        args = [sys.executable, "-m", "streamq", "daemon", "--url", url, "--claim-interval", "10ms"]
        with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
            wait_until(lambda before=before: stats().scheduled < before)  # type: ignore[misc]
            daemon.kill()
        assert app.inspector.audit().problems == []
    asyncio.run(_finished(app, 8400))
    assert stats().counters["completed"] == 8400


async def _finished(app: StreamQ, number: int) -> None:
    async with serving(app):
        await until(lambda: app.inspector.type_stats("work").counters.get("completed", 0) == number, 60)
    clean(app)
    await app.aclose()


@both
async def test_the_promoter_notices_a_clock_that_jumped(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C05, C07: due times are wall-clock times of the server; the promoter sleeps by its own clock. Guard: it
    looks again every LONGEST_SLEEP, so after a jump what is due by the new time does not wait for the old."""
    monkeypatch.setattr(promoter, "LONGEST_SLEEP", 0.2 if guarded else 600.0)
    url, now = str(app.address), int(time.time())

    def set_clock(seconds: int) -> None:
        command(
            url,
            "EVAL",
            "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], ARGV[1], 0)",
            1,
            CLOCK,
            seconds,
        )

    @app.task
    async def work() -> int:
        return 1

    set_clock(now)
    with changed(own_clock):
        handle = await work.options(delay="1h").aenqueue()
        async with tending(app):
            await asyncio.sleep(0.3)  # it has gone to sleep
            set_clock(now - 7200)
            await asyncio.sleep(0.3)
            assert handle.status() == "scheduled"
            set_clock(now + 7200)
            with judged(guarded):
                await until(lambda: handle.status() == "ready", 2)


async def test_one_type_that_is_broken_keeps_no_other_from_being_promoted(app: StreamQ) -> None:
    """A stray SET on one schedule: each type is served apart, and looked at again a little later."""
    rounds = 0

    def counted(name: str) -> None:
        nonlocal rounds
        rounds += name == "promote"

    await app.asend("aaa", {}, delay=60)
    command(str(app.address), "SET", "streamq:{shop:0}:aaa:schedule", "x")
    daemon = Daemon(app.address, QUICK, after_round=counted)
    running = asyncio.create_task(daemon.run())
    await daemon.ready.wait()
    handle = await app.asend("zzz", {}, delay=0.01)
    await until(lambda: handle.status() == "ready", 2)
    before = rounds
    await asyncio.sleep(0.5)
    assert rounds - before < 20
    daemon.stop()
    await running


# -- what others wrote -----------------------------------------------------------------------------------


@both
async def test_an_entry_with_no_sound_id_stops_no_worker(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result would have no key, and the batch that it was settled in failed as a whole. Guard: the codec
    takes only what streamq can have written."""
    if not guarded:
        monkeypatch.setattr(codec, "LOCAL_PATTERN", re.compile(".*", re.DOTALL))

    @app.task(lease=60)
    async def work() -> int:
        return 1

    await work.aenqueue()
    command(str(app.address), "XADD", STREAM, "*", "p", "{}", "i", "no-id")
    good = await work.aenqueue()
    async with working(app, CALM):
        with judged(guarded):
            await until(lambda: app.inspector.type_stats("work").dead == 1, 2)
            assert await good.aresult(2) == 1
