"""Durability as a choice: real replicas, a real append-only file, frozen ones, and servers that cannot."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from streamq import (
    DurabilityUnknown,
    OutcomeUnknown,
    RateLimitExceeded,
    RedisUnavailable,
    ServerError,
    ServerTooOld,
    StreamQ,
)
from streamq.calls import producer as producer_calls
from streamq.embedded import EmbeddedServer
from streamq.keys import shard_keys, type_keys
from streamq.model.task import NewTask
from streamq.options.checks import Durability
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import REDIS, command
from tests.ports import free_port
from tests.running import clean, wait_until


@pytest.fixture(scope="module", params=["valkey", "redis"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """A master and its replica."""
    if request.param == "redis" and REDIS is None:
        pytest.skip("no redis-server on the PATH")
    binary = Path(REDIS) if request.param == "redis" and REDIS else None
    ports = free_port(), free_port()
    quick = {"repl-diskless-sync-delay": "0"}
    with (
        EmbeddedServer(port=ports[0], binary=binary, config=quick) as master,
        EmbeddedServer(port=ports[1], binary=binary) as replica,
    ):
        command(replica.url, "REPLICAOF", "127.0.0.1", ports[0])
        wait_until(lambda: b"state=online" in info(master.url))
        yield master, replica


@pytest.fixture
def master(pair: tuple[EmbeddedServer, EmbeddedServer]) -> str:
    command(pair[0].url, "FLUSHALL")
    # A replica that was frozen a moment ago catches up first.
    command(pair[0].url, "SET", "marked", marked := secrets.token_hex(4))
    wait_until(lambda: command(pair[1].url, "GET", "marked") == marked.encode())
    return pair[0].url


@pytest.fixture(scope="module")
def everysec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with an append-only file that is fsynced every second."""
    with EmbeddedServer(data_dir=tmp_path_factory.mktemp("everysec")) as server:
        yield server.url


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("always")
    with EmbeddedServer(data_dir=folder, config={"appendfsync": "always"}) as server:
        yield server.url


def info(url: str) -> bytes:
    found = command(url, "INFO", "replication")
    assert isinstance(found, bytes)
    return found


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)


def held(url: str, stream: str = "streamq:{shop:0}:email:normal") -> int:
    found = command(url, "XLEN", stream)
    assert isinstance(found, int)
    return found


async def test_a_replica_has_the_task_when_enqueue_returns(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer]
) -> None:
    app = StreamQ("shop", master)

    @app.task(durability="replicas:1")
    def email(n: int) -> None: ...

    for n in range(20):
        email.enqueue(n)
        assert held(pair[1].url) == n + 1
    await email.aenqueue(20)
    assert held(pair[1].url) == 21
    app.enqueue_many([email.bind(n) for n in range(1000)])
    assert held(pair[1].url) == 1021
    await app.aenqueue_many([email.bind(n) for n in range(1000)])
    assert held(pair[1].url) == 2021
    app.send("email", {"n": 1}, durability="replicas:1")
    assert held(pair[1].url) == 2022
    clean(app)


def test_a_call_may_say_otherwise_than_the_policy(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer]
) -> None:
    app = StreamQ("shop", master, patience=0.3)

    @app.task(durability="replicas:1")
    def email(n: int) -> None: ...

    with frozen(pair[1]):
        assert email.options(durability="master").enqueue(1).status() == "ready"
        with pytest.raises(DurabilityUnknown):
            email.enqueue(2)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_frozen_replica_is_waited_for_and_then_told_of(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer], way: str
) -> None:
    """The task exists once, whatever was tried meanwhile; with its key it can be sent again."""

    def send(app: StreamQ, number: int, **options: str) -> str:
        if way == "sync":
            return app.send("email", {"n": number}, **options).id  # type: ignore[arg-type]

        async def asend() -> str:
            try:
                return (await app.asend("email", {"n": number}, **options)).id  # type: ignore[arg-type]
            finally:
                await app.aclose()

        return asyncio.run(asend())

    app, patient = StreamQ("shop", master, patience=0.5), StreamQ("shop", master, patience=20)
    send(patient, 0, durability="replicas:1")
    with frozen(pair[1]):
        began = time.monotonic()
        with pytest.raises(
            DurabilityUnknown, match=r"exists on the server and will run, .*: 0 of 1 replicas had it"
        ) as caught:
            send(app, 1, durability="replicas:1", idempotency_key="k")
        assert 0.4 < time.monotonic() - began < 10
        assert isinstance(caught.value, OutcomeUnknown | RedisUnavailable)
        assert app.handle(caught.value.task_id).status() == "ready"
        assert [handle.id for handle in caught.value.accepted] == [caught.value.task_id]  # type: ignore[attr-defined]
        with pytest.raises(DurabilityUnknown) as again:
            send(app, 1, durability="replicas:1", idempotency_key="k")
        assert again.value.task_id == caught.value.task_id
    # It is there on the replica at once when it goes on, and the key's call is confirmed.
    assert send(patient, 1, durability="replicas:1", idempotency_key="k") == caught.value.task_id
    assert held(pair[1].url) == held(master) == 2
    clean(app)


def test_a_replica_that_comes_back_within_the_patience_is_enough(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer]
) -> None:
    app = StreamQ("shop", master, patience=20)
    app.send("email", {})
    with frozen(pair[1]):
        timer = threading.Timer(1.5, os.kill, (pair[1].pid, signal.SIGCONT))  # in the second try
        timer.start()
        began = time.monotonic()
        app.send("email", {}, durability="replicas:1")
        assert time.monotonic() - began >= 1.4
        assert held(pair[1].url) == 2
        timer.join()
    assert held(master) == 2


def test_a_call_that_is_sent_again_on_another_connection_waits_for_the_first(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer]
) -> None:
    """Guard: a repeated call must write, or WAIT on a connection that wrote nothing is true at once."""
    keys = type_keys("shop", 0, "email"), shard_keys("shop", 0)
    enqueue = producer_calls.enqueue(*keys, "writer", 1, [NewTask(b"{}")])
    first, second = SyncTransport(Address.parse(master)), SyncTransport(Address.parse(master))
    with frozen(pair[1]):
        answers = first.run(enqueue)
        found = second.run(producer_calls.confirmed(enqueue, "replicas:1", 100))
        assert found == producer_calls.Confirmed(answers, "0 of 1 replicas had it")
    assert second.run(producer_calls.confirmed(enqueue, "replicas:1", 10_000)) == producer_calls.Confirmed(
        answers, ""
    )
    first.close()
    second.close()


def test_a_duplicate_waits_too(master: str, pair: tuple[EmbeddedServer, EmbeddedServer]) -> None:
    """Guard: the call of a duplicate writes as well; the first task's write was another connection's."""
    app = StreamQ("shop", master, patience=0.3)
    app.send("email", {})
    with frozen(pair[1]):
        first = app.send("email", {"n": 1}, idempotency_key="k")
        with pytest.raises(DurabilityUnknown) as caught:
            StreamQ("shop", master, patience=0.3).send(
                "email", {"n": 1}, idempotency_key="k", durability="replicas:1"
            )
    assert caught.value.task_id == first.id
    [handle] = caught.value.accepted
    assert getattr(handle, "duplicate", None) is True


async def test_those_who_do_not_ask_for_it_do_not_wait(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer]
) -> None:
    """Guard: lines are kept apart by durability."""
    app = StreamQ("shop", master, patience=40)
    await app.asend("email", {})
    with frozen(pair[1]):
        waiting = [asyncio.create_task(app.asend("email", {}, durability="replicas:1")) for _ in range(50)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await asyncio.gather(*(app.asend("email", {}) for _ in range(50)))
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    assert held(pair[1].url) == 101


def test_in_bulk_each_task_is_told_of(master: str, pair: tuple[EmbeddedServer, EmbeddedServer]) -> None:
    app = StreamQ("shop", master, patience=0.3)

    @app.task(rate_limit="400/1h", durability="replicas:1")
    def email(n: int) -> None: ...

    with frozen(pair[1]), pytest.raises(DurabilityUnknown) as caught:
        app.enqueue_many([email.bind(n) for n in range(700)])
    assert len(caught.value.accepted) == 700
    assert sum(handle is not None for handle in caught.value.accepted) == 400 == held(master)
    with pytest.raises(RateLimitExceeded):
        email.enqueue(1)


def test_too_few_replicas(master: str) -> None:
    app = StreamQ("shop", master, patience=2)
    with pytest.raises(DurabilityUnknown, match="1 of 2 replicas had it"):
        app.send("email", {}, durability="replicas:2")


def test_a_master_that_refuses_without_replicas_has_taken_nothing(
    master: str, pair: tuple[EmbeddedServer, EmbeddedServer]
) -> None:
    app = StreamQ("shop", master, patience=0.2)
    app.send("email", {})
    command(master, "CONFIG", "SET", "min-replicas-to-write", "3")
    try:
        with pytest.raises(RedisUnavailable, match="NOREPLICAS") as caught:
            app.send("email", {}, durability="replicas:1")
        assert not isinstance(caught.value, OutcomeUnknown)
    finally:
        command(master, "CONFIG", "SET", "min-replicas-to-write", "0")
    assert held(master) == 1


async def test_a_script_that_the_server_does_not_know_is_sent_with_the_wait(master: str) -> None:
    app = StreamQ("shop", master)
    app.send("email", {}, durability="replicas:1")
    command(master, "SCRIPT", "FLUSH")
    app.send("email", {}, durability="replicas:1")
    command(master, "SCRIPT", "FLUSH")
    await app.asend("email", {}, durability="replicas:1")
    assert held(master) == 3


def test_what_waits_for_the_disk_survives_a_crash(tmp_path: Path) -> None:
    """The kernel keeps what a killed server wrote; that it was fsynced is what WAITAOF says.

    The promise: an accepted task is never lost while Redis keeps what it acknowledged.
    """
    with EmbeddedServer(data_dir=tmp_path) as server:
        app = StreamQ("shop", server.url)
        ids = [app.send("email", {"n": n}, durability="aof").id for n in range(2)]
        os.kill(server.pid, signal.SIGKILL)
    with EmbeddedServer(data_dir=tmp_path) as server:
        again = StreamQ("shop", server.url)
        assert [again.handle(one).status() for one in ids] == ["ready", "ready"]


def test_a_file_that_is_no_longer_written_is_told_of(everysec: str) -> None:
    command(everysec, "FLUSHALL")
    app = StreamQ("shop", everysec)
    app.send("email", {}, durability="aof")
    command(everysec, "CONFIG", "SET", "appendonly", "no")
    try:
        app._client._patience = 0.2
        with pytest.raises(DurabilityUnknown, match="appendonly is disabled"):
            app.send("email", {}, durability="aof")
    finally:
        command(everysec, "CONFIG", "SET", "appendonly", "yes")


def test_a_server_without_a_file_says_so_before_anything_is_sent(url: str) -> None:
    app = StreamQ("shop", url)
    with pytest.raises(ServerError, match="needs an append-only file .*Set appendonly yes"):
        app.send("email", {}, durability="aof")
    assert held(url) == 0


async def test_a_server_that_cannot_say_so_names_the_versions(redis_server: EmbeddedServer) -> None:
    if b"redis_version:7.0" not in command(redis_server.url, "INFO", "server"):  # type: ignore[operator]
        pytest.skip("this redis-server has WAITAOF")
    command(redis_server.url, "FLUSHALL")
    app = StreamQ("shop", redis_server.url)
    message = "needs the command WAITAOF, which Redis and Valkey have since 7.2 .*Upgrade"
    with pytest.raises(ServerTooOld, match=message):
        app.send("email", {}, durability="aof")
    with pytest.raises(ServerTooOld, match=message):
        await app.asend("email", {}, durability="aof")
    assert held(redis_server.url) == 0


async def _throughput(url: str, durability: Durability, number: int) -> float:
    """Tasks a second, for the eye; what is held is that they share their waits, however busy the machine."""
    waits = _waits(url)
    app = StreamQ("shop", url, patience=60)  # of all of them together, on a machine that is busy
    await app.asend("email", {}, durability=durability)
    began = time.monotonic()
    handles = await asyncio.gather(
        *(app.asend("email", {"n": n}, durability=durability) for n in range(number))
    )
    rate = number / (time.monotonic() - began)
    assert len({handle.id for handle in handles}) == number == held(url) - 1
    assert 0 < _waits(url) - waits < number / 50
    await app.aclose()
    return rate


def _waits(url: str) -> int:
    """How many waits for replicas or for the disk the server has been asked for."""
    stats = command(url, "INFO", "commandstats")
    assert isinstance(stats, bytes)
    return sum(map(int, re.findall(rb"cmdstat_wait(?:aof)?:calls=(\d+)", stats)))


async def test_concurrent_calls_share_their_wait_for_a_replica(master: str) -> None:
    rate = await _throughput(master, "replicas:1", 10_000)
    print(f"replicas:1: {rate:,.0f} tasks a second")


@pytest.mark.parametrize("policy", ["everysec", "always"])
async def test_concurrent_calls_share_their_wait_for_a_disk(
    request: pytest.FixtureRequest, policy: str
) -> None:
    url: str = request.getfixturevalue(policy)
    command(url, "FLUSHALL")
    rate = await _throughput(url, "aof", 10_000)
    print(f"aof, {policy}: {rate:,.0f} tasks a second")


def test_bulk_waits_for_the_disk_once_and_not_for_each_batch(everysec: str) -> None:
    command(everysec, "FLUSHALL")
    app = StreamQ("shop", everysec)
    began = time.monotonic()
    app.enqueue_many([app.bound("email", {"n": n}, durability="aof") for n in range(4000)])
    assert time.monotonic() - began < 10  # 14 batches, a second each one after the other
    assert held(everysec) == 4000
