"""What has a time ends in its time; what was not sent is withdrawn; a closed connection is not sent on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from streamq import OutcomeUnknown, RedisUnavailable, ResultTimeout, StreamQ, WorkerOptions, scripts
from streamq.calls import question as question_calls
from streamq.embedded import EmbeddedServer
from streamq.transport import wire
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.subscription import AsyncSubscription, Subscription
from streamq.transport.sync_transport import SyncTransport
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.ports import free_port
from tests.running import until, working

BOUND = 4.0
"""Seconds within which ends what was given one, on a busy machine; without a deadline it takes 5 or more."""


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
def own() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(port=free_port()) as server:
        yield server


@contextmanager
def timed(limit: float = BOUND) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for one in held:
            one.close()


@pytest.mark.parametrize("seconds", [1, 0])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_result_of_a_frozen_server_ends_in_its_time(
    own: EmbeddedServer, way: str, seconds: int
) -> None:
    app = StreamQ("shop", own.url)
    handle = app.send("email", {})
    await handle.astatus()
    with frozen(own), timed(), pytest.raises(ResultTimeout, match="unknown whether"):
        await (
            handle.aresult(timeout=seconds) if way == "async" else asyncio.to_thread(handle.result, seconds)
        )


@pytest.mark.parametrize("ask", ["result", "events"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_wait_without_a_time_needs_an_answer_at_first(
    own: EmbeddedServer, way: str, ask: str
) -> None:
    """Within the patience; an outage that comes later is waited for."""
    handle = StreamQ("shop", own.url, patience=0.5).send("email", {})
    await handle.astatus()

    async def watch() -> None:
        async for _ in handle.events():
            pass

    asks: dict[str, Callable[[], Any]] = {
        "sync result": lambda: asyncio.to_thread(handle.result),
        "async result": handle.aresult,
        "sync events": lambda: asyncio.to_thread(list, handle.events()),
        "async events": watch,
    }
    with frozen(own), timed(), pytest.raises(RedisUnavailable):
        await asks[f"{way} {ask}"]()


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_result_outlives_an_outage_that_is_longer_than_the_patience(proxy: Proxy, way: str) -> None:
    app = StreamQ("shop", proxy.url, patience=0.3)
    handle = await app.asend("email", {})
    waiting = asyncio.create_task(
        handle.aresult(timeout=40) if way == "async" else asyncio.to_thread(handle.result, 40)
    )
    await asyncio.sleep(0.3)  # it waits by now, or it begins to within the outage
    proxy.go_down()
    await asyncio.sleep(2)  # an outage of a certain length
    assert not waiting.done()
    proxy.come_back()
    app.admin.cancel(handle.id)
    with pytest.raises(Exception, match="was cancelled"):
        await waiting


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster", "rediss+cluster"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_patience_bounds_every_wait(black_hole: int, scheme: str, way: str) -> None:
    """Also the handshake of TLS, the login, and the question who is to be asked."""
    path = "/mymaster" if "sentinel" in scheme else ""
    app = StreamQ("shop", f"{scheme}://user:secret@127.0.0.1:{black_hole}{path}", patience=1)
    with timed(), pytest.raises(RedisUnavailable) as found:
        await (app.asend("email", {}) if way == "async" else asyncio.to_thread(app.send, "email", {}))
    assert not isinstance(found.value, OutcomeUnknown)


@pytest.mark.parametrize("kind", ["flow", "key"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_wait_that_looks_again_bears_an_outage_until_its_deadline(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], kind: str, way: str
) -> None:
    app, other = StreamQ("shop", proxy.url, patience=0.2), StreamQ("shop", tcp[0].url)
    flow = app.flow("import")
    flow.add(app.bound("email", {}))
    waited: Any = await flow.astart() if kind == "flow" else app.find("email", key="key")

    def wait(seconds: float) -> Any:
        return waited.aresult(seconds) if way == "async" else asyncio.to_thread(waited.result, seconds)

    with pytest.raises(ResultTimeout, match=r"flow .* is running|no task 'email'"):
        await wait(0.1)
    waiting = asyncio.create_task(wait(40))
    await asyncio.sleep(0.1)  # it waits by now, or it begins to within the outage
    proxy.go_down()
    with timed(), pytest.raises(ResultTimeout, match="unknown whether"):
        await wait(1)
    assert not waiting.done()
    proxy.come_back()
    if kind == "flow":
        await waited.acancel()
    else:
        handle = await other.asend("email", {}, idempotency_key="key")
        await handle.acancel()
    with pytest.raises(Exception, match="was cancelled"):
        await waiting


def test_a_question_is_never_told_that_its_outcome_is_unknown(own: EmbeddedServer) -> None:
    app = StreamQ("shop", own.url, patience=1)
    handle = app.send("email", {})
    sender = StreamQ("shop", own.url, patience=1)
    sender.send("email", {})
    with frozen(own):
        for ask in (handle.status, app.inspector.stats, app.inspector.workers):
            with pytest.raises(RedisUnavailable) as found:
                ask()
            assert not isinstance(found.value, OutcomeUnknown)
        with timed(), pytest.raises(OutcomeUnknown):
            sender.send("email", {})


async def test_what_was_not_sent_is_withdrawn(own: EmbeddedServer) -> None:
    app = StreamQ("shop", own.url)
    await app.asend("email", {})
    with frozen(own):
        calls_ = [asyncio.create_task(app.asend("email", {"n": n})) for n in range(100)]
        many = asyncio.create_task(app.aenqueue_many([app.bound("email", {"n": n}) for n in range(700)]))
        await asyncio.sleep(0.2)  # they are on their way, as far as they come
        for one in (*calls_, many):
            one.cancel()
        await asyncio.wait([*calls_, many])
    await app.asend("email", {})
    assert app.inspector.type_stats("email").ready <= 3  # the first, the last, and the one that was out


async def test_what_waits_for_a_server_that_is_away_is_withdrawn_too(proxy: Proxy) -> None:
    app = StreamQ("shop", proxy.url, patience=20)
    await app.asend("email", {})
    proxy.go_down()
    gone = [asyncio.create_task(app.asend("email", {"n": n})) for n in range(50)]
    await asyncio.sleep(0)
    kept = [asyncio.create_task(app.asend("email", {"n": n})) for n in range(50)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.gather(*gone)
    proxy.come_back()
    await asyncio.gather(*kept)
    assert app.inspector.type_stats("email").ready == 51


def _kill_links(url: str) -> None:
    command(url, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@pytest.mark.parametrize("way", ["sync", "async", "blocked"])
async def test_a_connection_that_was_closed_meanwhile_is_not_sent_on(
    tcp: tuple[EmbeddedServer, int], way: str
) -> None:
    """With `timeout` the server closes what is idle; a first call after a pause finds it so."""
    app = StreamQ("shop", tcp[0].url, patience=0)
    send: Callable[[], Any] = (lambda: app.send("email", {})) if way == "sync" else (lambda: None)
    for _ in range(20):
        if way == "sync":
            send()
            _kill_links(tcp[0].url)
            send()
            continue
        await app.asend("email", {})
        _kill_links(tcp[0].url)
        if way == "async":
            await asyncio.sleep(0.005)  # the loop has looked; `blocked`: it has not
        await app.asend("email", {})


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_question_whose_connection_ends_is_asked_again(proxy: Proxy, way: str) -> None:
    app = StreamQ("shop", proxy.url, patience=0)
    handle = await app.asend("email", {})
    handle.status()
    proxy.lose_reply_to(scripts.load("locate").sha.encode())
    assert (await handle.astatus() if way == "async" else handle.status()) == "ready"


async def test_a_subscription_opens_in_its_time(black_hole: int) -> None:
    address = Address.parse(f"redis://127.0.0.1:{black_hole}")
    transport = AsyncTransport(address)
    with timed(), pytest.raises(RedisUnavailable):
        await AsyncSubscription(transport, "channel").open(0.5)
    with timed(), pytest.raises(RedisUnavailable):
        await asyncio.to_thread(Subscription(SyncTransport(address), "channel").open, 0.5)


async def test_a_subscription_that_is_cancelled_while_it_opens_leaves_no_connection(
    own: EmbeddedServer,
) -> None:
    """As when a program ends just after its result came: the server's confirmation is still on its way."""
    subscription = AsyncSubscription(AsyncTransport(Address.parse(own.url)), "channel")
    opening = asyncio.ensure_future(subscription.open())
    while not subscription.connected and not opening.done():  # noqa: ASYNC110 - one turn of the loop at a time
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not subscription.connected


async def test_a_line_of_callers_ends_in_its_time(own: EmbeddedServer) -> None:
    app = StreamQ("shop", own.url, patience=1)
    await app.asend("email", {})
    with frozen(own), timed():
        ends = await asyncio.gather(*(app.asend("email", {}) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(end, RedisUnavailable) for end in ends)


async def test_the_transport_is_asked_and_answers_after_a_pause(tcp: tuple[EmbeddedServer, int]) -> None:
    transport = AsyncTransport(Address.parse(tcp[0].url))
    await transport.run(question_calls.now(), patience=0)
    _kill_links(tcp[0].url)
    await until(lambda: not any(link.usable() for node in transport._topology.nodes() for link in node.idle))
    assert await transport.run(question_calls.now(), patience=0)
    await transport.aclose()


async def test_an_idle_connection_of_a_worker_that_ends_is_no_warning(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A proxy cuts what is silent: the read that waits, the control channel, the connections in between."""
    app = StreamQ("shop", proxy.url)

    @app.task
    async def work(n: int) -> int:
        return n

    # No daemon with short intervals, no heartbeat: what is cut in the middle of a call was not idle.
    async with working(app, WorkerOptions(concurrency=2, block=30, heartbeat=60)):
        for n in range(2):
            assert await (await work.aenqueue(n)).aresult(20) == n
            await until(lambda: b"cmd=xreadgroup" in bytes(command(tcp[0].url, "CLIENT", "LIST")))  # type: ignore[call-overload]
            await asyncio.sleep(1.5)  # silence of a certain length
            proxy.cut()
        assert await (await work.aenqueue(9)).aresult(20) == 9
    said = "".join(capsys.readouterr())
    assert "warning" not in said, said


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_call_waits_for_a_connection_no_longer_than_its_time(
    own: EmbeddedServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all connections are in use, by calls with more patience."""
    monkeypatch.setattr(wire, "MAX_CONNECTIONS", 1)
    address = Address.parse(own.url)
    transport, plain = AsyncTransport(address), SyncTransport(address)

    async def ask(patience: float) -> int:
        if way == "async":
            return await transport.run(question_calls.now(), patience=patience)
        return await asyncio.to_thread(plain.run, question_calls.now(), patience=patience)

    await ask(5)
    with frozen(own):
        patient = asyncio.create_task(ask(60))
        await asyncio.sleep(0.3)  # it has the connection by now, or comes to it after the other
        with timed(), pytest.raises(RedisUnavailable):
            await ask(0.5)
    assert await patient > 0
    assert await ask(5) > 0
    await transport.aclose()
    plain.close()


async def test_who_waits_for_a_connection_takes_turns(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some give up meanwhile: no permit is lost."""
    monkeypatch.setattr(wire, "MAX_CONNECTIONS", 2)
    transport = AsyncTransport(Address.parse(url))
    for _ in range(5):
        asking = [asyncio.create_task(transport.run(question_calls.now())) for _ in range(30)]
        await asyncio.sleep(0)
        for one in asking[::3]:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert [node.limit.free for node in transport._topology.nodes()] == [2]
    await transport.aclose()


@pytest.mark.parametrize("ask", ["run_on_all_nodes", "run_on_reachable_nodes"])
def test_questions_to_every_server_end_in_their_time(black_hole: int, ask: str) -> None:
    transport = SyncTransport(Address.parse(f"redis://127.0.0.1:{black_hole}"), patience=0.5)
    with timed(), pytest.raises(RedisUnavailable):
        getattr(transport, ask)(question_calls.now())


def test_a_question_to_one_of_several_servers_ends_in_its_time(own: EmbeddedServer) -> None:
    transport = SyncTransport(Address.parse(own.url), patience=0.5)
    [where] = transport.run_on_all_nodes(question_calls.now())
    with frozen(own), timed(), pytest.raises(RedisUnavailable):
        transport.run_on_node(where, question_calls.now())


async def test_awaited_questions_to_servers_end_in_their_time(own: EmbeddedServer) -> None:
    """And no permit is lost."""
    transport = AsyncTransport(Address.parse(own.url), patience=0.5)
    [where] = await transport.run_on_all_nodes(question_calls.now())
    with frozen(own):
        for ask in (
            lambda: transport.run_on_all_nodes(question_calls.now()),
            lambda: transport.run_on_node(where, question_calls.now()),
        ):
            with timed(), pytest.raises(RedisUnavailable):
                await ask()
    await until(lambda: [node.limit.free for node in transport._topology.nodes()] == [wire.MAX_CONNECTIONS])
    assert list(await transport.run_on_all_nodes(question_calls.now())) == [where]
    await transport.aclose()


@pytest.mark.parametrize("question", ["status", "cancel"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_questions_of_a_handle_end_in_their_time(own: EmbeddedServer, question: str, way: str) -> None:
    handle = StreamQ("shop", own.url, patience=0.5).send("email", {})
    await handle.astatus()
    with frozen(own), timed(), pytest.raises(RedisUnavailable):
        await (
            getattr(handle, f"a{question}")()
            if way == "async"
            else asyncio.to_thread(getattr(handle, question))
        )
