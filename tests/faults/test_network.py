"""Workers and clients among lost replies, connections that are half open, servers that refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import StreamQ, WorkerOptions, scripts
from streamq.embedded import EmbeddedServer
from streamq.transport import faults, wire
from streamq.transport.reader import AsyncReader
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.lost_replies import LostReplies
from tests.client.proxy import Proxy
from tests.client.test_network import blocks
from tests.conftest import command
from tests.faults.proof import both, judged, limit
from tests.running import serving, until, working
from tests.variant import changed, without

CALM = WorkerOptions(concurrency=5, block=0.5, heartbeat=60, drain_timeout=5)
"""A worker of which hardly anything is heard but what a test makes it say."""


@both
def test_an_enqueue_whose_reply_is_lost(proxy: Proxy, guarded: bool) -> None:
    """Y01 to Y04, Y07: it is sent again. Guard: the writer's last call is remembered with its answer."""
    app = StreamQ("shop", proxy.url)
    forgetful = without("enqueue", "if last == sequence then", "if false then")
    with changed() if guarded else changed(forgetful), judged(guarded):
        app.send("email", {"n": 0})
        proxy.lose_reply_to(scripts.load("enqueue").sha.encode())
        app.send("email", {"n": 1})
        assert app.inspector.type_stats("email").ready == 2


@both
async def test_a_settlement_whose_reply_is_lost(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], guarded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task is settled, and the worker must learn that it was by its own call. Guard: the writer's last
    call; without it the resent call finds nothing pending and takes the lease for lost.

    The promise: settled at most once.
    """
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
            await until(lambda: len(worker.parts.in_flight) == 0)
    out = capsys.readouterr()
    assert "doing=settle" in out.out + out.err
    with judged(guarded):
        assert "task.fenced" not in out.out + out.err
    assert direct.inspector.type_stats("work").counters["completed"] == 2
    await direct.aclose()


@both
async def test_deliveries_that_never_arrived_are_handed_back(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y06, D01, D03: the server has delivered, the connection broke, and no read shows the entry again.
    Guard: after a failed read the worker hands back what is pending under its name and it never saw.

    The promise: At-least-once execution.
    """
    app, direct = StreamQ("shop", proxy.url), StreamQ("shop", tcp[0].url)
    if not guarded:

        async def nothing(self: LostReplies) -> None: ...

        monkeypatch.setattr(LostReplies, "hand_back", nothing)

    @app.task(lease=60)
    async def work(n: int) -> int:
        return n

    async with working(app, CALM):
        await (await work.aenqueue(0)).aresult(5)
        await until(lambda: blocks(tcp[0].url))
        proxy.lose_reply_with(b'{"n":1}')
        handle = await asyncio.to_thread(direct.send, "work", {"n": 1})
        with judged(guarded):
            await until(lambda: handle.status() == "completed", limit(guarded))
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
            await until(lambda: handle.status() == "completed", limit(guarded))
        proxy.go_down()
        proxy.come_back()
    await direct.aclose()


@both
async def test_a_read_may_block_for_longer_than_a_command_may_take(
    app: StreamQ, guarded: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Y05: a socket timeout below BLOCK ends every idle read. Guard: the time to block is added."""
    monkeypatch.setattr(wire, "COMMAND_TIMEOUT", 0.5)
    if not guarded:
        true = AsyncReader.run

        async def hasty(
            self: AsyncReader, call: Any, *, longest: float = 0.0, incarnation: str | None = None
        ) -> Any:
            return await true(self, call, incarnation=incarnation)

        monkeypatch.setattr(AsyncReader, "run", hasty)

    @app.task
    async def work() -> None: ...

    async with working(app, WorkerOptions(concurrency=5, block=1.2, heartbeat=60, drain_timeout=5)):
        await asyncio.sleep(2.8)  # two idle reads
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
                assert await (await work.aenqueue(3)).aresult(limit(guarded)) == 3
                assert await sync.aresult(limit(guarded)) == 2
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
                await until(lambda: handle.status() == "completed", limit(guarded))
    finally:
        command(url, "CONFIG", "SET", "min-replicas-to-write", "0")


def test_the_client_library_does_not_resend_and_replies_are_raw(app: StreamQ) -> None:
    """Y01, Y09, Y10: its own retries are off, the protocol is pinned and bytes stay bytes."""
    transport = SyncTransport(app.address)
    connection: Any = transport.open(transport.discover(None)).connection
    assert connection.retry._retries == 0
    assert int(connection.protocol) == 2
    assert connection.encoder.decode_responses is False
    connection.disconnect()
