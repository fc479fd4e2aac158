"""Lost replies, outages, servers that refuse: what producers and workers make of them."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from streamq import (
    AuthenticationFailed,
    OutcomeUnknown,
    QueueFull,
    RedisUnavailable,
    ServerTooOld,
    StreamQ,
    Worker,
    WorkerOptions,
    scripts,
)
from streamq.calls import question as question_calls
from streamq.embedded import EmbeddedServer
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.server_wait import is_ready, wait_until_ready
from streamq.transport.subscription import AsyncSubscription
from tests.client.proxy import Proxy
from tests.conftest import command
from tests.ports import free_port
from tests.running import clean, until, working


def enqueue_script() -> bytes:
    """What each call that enqueues has in it, as soon as the server knows the script."""
    return scripts.load("enqueue").sha.encode()


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_enqueue_whose_reply_is_lost_makes_one_task(proxy: Proxy, lost: int) -> None:
    """Guard: the writer's sequence. The call is sent again, and answered with the first answer.

    The promise: enqueue may be retried without duplicates.
    """
    app = StreamQ("shop", proxy.url)
    app.send("email", {"n": 0})
    proxy.lose_reply_to(enqueue_script(), lost)
    handle = app.send("email", {"n": 1})
    assert handle.status() == "ready"
    assert app.inspector.type_stats("email").ready == 2


async def test_concurrent_enqueues_whose_reply_is_lost_make_one_task_each(proxy: Proxy) -> None:
    app = StreamQ("shop", proxy.url)
    await app.asend("email", {})
    proxy.lose_reply_to(enqueue_script())
    handles = await asyncio.gather(*(app.asend("email", {"n": n}) for n in range(100)))
    assert len({handle.id for handle in handles}) == 100
    assert app.inspector.type_stats("email").ready == 101


def test_an_enqueue_that_cannot_learn_says_so(proxy: Proxy) -> None:
    app = StreamQ("shop", proxy.url, patience=0.3)
    app.send("email", {})
    proxy.lose_reply_to(enqueue_script(), 1000)
    with pytest.raises(OutcomeUnknown, match="unknown whether"):
        app.send("email", {})


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_refusal_does_not_hide_that_the_first_try_may_have_been_taken(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is taken, its answer is lost, and by the time it is sent again the server is full."""
    app = StreamQ("shop", proxy.url)
    await app.asend("email", {})
    app.send("email", {})
    transport: Any = app._client.transport if way == "sync" else app._asyncs.current().transport
    attempt = transport._attempt

    def fill(sent: list[bool]) -> None:
        if sent:
            command(tcp[0].url, "CONFIG", "SET", "maxmemory", "1")

    def again(call: Any, sent: list[bool]) -> Any:
        fill(sent)
        return attempt(call, sent)

    async def again_async(call: Any, sent: list[bool], *more: Any) -> Any:
        fill(sent)
        return await attempt(call, sent, *more)

    monkeypatch.setattr(transport, "_attempt", again_async if way == "async" else again)
    proxy.lose_reply_to(enqueue_script())
    try:
        with pytest.raises(OutcomeUnknown, match="memory limit"):
            await app.asend("email", {}) if way == "async" else app.send("email", {})
    finally:
        command(tcp[0].url, "CONFIG", "SET", "maxmemory", "0")
    assert app.inspector.type_stats("email").ready == 3


def test_no_server_is_told_with_the_address_and_without_the_password() -> None:
    app = StreamQ("shop", f"redis://:secret@127.0.0.1:{free_port()}/0", patience=0.1)
    with pytest.raises(
        RedisUnavailable, match=r"no connection to redis://127.0.0.1:\d+/0: .*Is the server running"
    ) as e:
        app.send("email", {})
    assert "secret" not in str(e.value)
    assert "secret" not in repr(app)
    assert "secret" not in repr(app.address)


def test_a_wrong_password() -> None:
    with EmbeddedServer(port=free_port(), config={"requirepass": "right"}) as server:
        for url in (server.url, server.url.replace("//", "//:wrong@")):
            began = time.monotonic()
            with pytest.raises(AuthenticationFailed, match="check user and password"):
                StreamQ("shop", url).send("email", {})
            assert time.monotonic() - began < 5  # not tried again
        assert StreamQ("shop", server.url.replace("//", "//:right@")).send("email", {}).status() == "ready"


def resetting() -> Iterator[int]:
    """Something that resets every connection as soon as it is made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_a_reset_in_the_middle_of_a_login_is_an_outage_on_uvloop_too() -> None:
    """Found by the chaos runs: uvloop's RuntimeError ended daemons."""
    uvloop = pytest.importorskip("uvloop")

    async def attempts(port: int) -> None:
        transport = AsyncTransport(Address.parse(f"redis://127.0.0.1:{port}/0"))
        for _ in range(300):
            with pytest.raises(RedisUnavailable):
                await transport.run(question_calls.now(), patience=0)
            listening = AsyncSubscription(transport, "channel")
            with pytest.raises(RedisUnavailable):
                await listening.open()
        await transport.aclose()

    with contextmanager(resetting)() as port, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(attempts(port))


async def test_a_server_that_loads_its_data_is_not_back_yet(tmp_path: Path) -> None:
    """Found by the chaos runs: it tells the time, so that loops asked it for more without a pause."""
    slow = {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}
    port = free_port()
    with EmbeddedServer(data_dir=tmp_path, port=port) as server:
        words = [word for n in range(500) for word in (f"key{n}", "x" * 100)]
        command(server.url, "MSET", *words)
        command(server.url, "CONFIG", "SET", "appendfsync", "always")
        command(server.url, "BGREWRITEAOF")
        await until(lambda: b"aof_rewrite_in_progress:0" in bytes(command(server.url, "INFO", "persistence")))  # type: ignore[call-overload]
    again = EmbeddedServer(data_dir=tmp_path, port=port, config=slow)
    starting = asyncio.create_task(asyncio.to_thread(again.start))
    transport = AsyncTransport(Address.parse(f"redis://127.0.0.1:{port}/0"))
    try:
        loading = 0
        while not starting.done():
            with suppress(RedisUnavailable):
                await transport.run(question_calls.now(), patience=0)
                loading += not await is_ready(transport)
            await asyncio.sleep(0.01)
        assert loading
        async with asyncio.timeout(20):
            assert await wait_until_ready(transport)
    finally:
        await starting
        await transport.aclose()
        again.stop()


def old_server() -> tuple[int, threading.Thread]:
    """Something that speaks enough of the protocol to say that it is Redis 6.2."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            while data := connection.recv(4096):
                text = b"# Server\r\nredis_version:6.2.14\r\n"
                asked = data.count(b"INFO\r\n") - data.count(b"SETINFO\r\n")
                others = data.count(b"CLIENT\r\n")
                connection.sendall(b"+OK\r\n" * others + (b"$%d\r\n%s\r\n" % (len(text), text)) * asked)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_server_that_is_too_old() -> None:
    port, thread = old_server()
    with pytest.raises(ServerTooOld, match="runs redis 6.2.14: streamq needs Redis 7.0 or Valkey 7.2"):
        StreamQ("shop", f"redis://127.0.0.1:{port}").send("email", {})
    thread.join(5)


def test_a_full_server_refuses_and_nothing_is_half_done(url: str) -> None:
    app = StreamQ("shop", url)
    app.send("email", {})
    command(url, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(QueueFull, match="at its memory limit and accepts no new tasks. Raise maxmemory"):
        app.enqueue_many([app.bound("email", {"n": n}) for n in range(10)])
    command(url, "CONFIG", "SET", "maxmemory", "0")
    assert app.inspector.type_stats("email").ready == 1
    clean(app)


async def test_an_outage_is_survived_without_losing_what_runs(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    app = StreamQ("shop", proxy.url)
    direct = StreamQ("shop", tcp[0].url)
    started = asyncio.Event()
    over = asyncio.Event()
    runs: list[int] = []

    @app.task(lease=30)
    async def work(n: int) -> int:
        runs.append(n)
        started.set()
        await over.wait()
        return n

    async with working(app, WorkerOptions(concurrency=2, block=0.5)):
        first = await app.asend("work", {"n": 1})
        await started.wait()
        proxy.go_down()
        over.set()
        second = direct.send("work", {"n": 2})
        await asyncio.sleep(0.5)  # an outage of a certain length
        proxy.come_back()
        assert await direct.handle(first.id).aresult(10) == 1
        assert await direct.handle(second.id).aresult(10) == 2
    assert runs == [1, 2]
    clean(direct)


def blocks(url: str) -> bool:
    """Whether a worker waits for a task on the server: its read has arrived, and nothing answers it yet."""
    listed: bytes = command(url, "CLIENT", "LIST")  # type: ignore[assignment]
    return any(b" flags=b" in line and b" cmd=xreadgroup" in line for line in listed.splitlines())


async def test_tasks_whose_delivery_was_lost_on_the_way_are_handed_back(
    proxy: Proxy, tcp: tuple[EmbeddedServer, int]
) -> None:
    """Guard: after a failed read a worker hands back what it holds and never saw."""
    app = StreamQ("shop", proxy.url)
    direct = StreamQ("shop", tcp[0].url)

    @app.task(lease=60)
    async def work(n: int) -> int:
        return n

    async with working(app, WorkerOptions(concurrency=2, block=30, heartbeat=60)):
        await (await app.asend("work", {"n": 0})).aresult(10)
        await until(lambda: blocks(tcp[0].url))
        proxy.lose_reply_with(b'{"n":1}')  # the delivery itself
        handle = await asyncio.to_thread(direct.send, "work", {"n": 1})
        assert await direct.handle(handle.id).aresult(10) == 1  # long before the lease is over
    assert direct.inspector.type_stats("work").counters["handed_back"] == 1


async def test_a_server_that_evicts_is_warned_about_loudly(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = StreamQ("shop", url)

    @app.task
    async def work() -> None: ...

    command(url, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        async with working(app):
            pass
    finally:
        command(url, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    out = capsys.readouterr()
    assert "tasks WILL BE LOST: set maxmemory-policy to noeviction" in out.out + out.err


async def test_two_apps_of_one_name_are_noticed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = StreamQ("shop", url), StreamQ("shop", url)

    @one.task(name="email")
    async def first() -> None: ...

    @two.task(name="email")
    async def second() -> None: ...

    async with working(one), working(two):
        pass
    out = capsys.readouterr()
    assert "type.handler_changed" in out.out + out.err


async def test_a_worker_without_a_server_says_so_and_waits(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    app = StreamQ("shop", f"redis://127.0.0.1:{port}")

    @app.task
    async def work() -> None: ...

    worker = Worker(app)
    running = asyncio.create_task(worker.run())
    said = ""

    def told() -> bool:
        nonlocal said
        said += "".join(capsys.readouterr())
        return "no connection to" in said

    await until(told)
    with EmbeddedServer(port=port):
        await until(worker.ready.is_set)
        worker.stop()
        await running
