"""Idempotency keys: the same name is the same task, over processes, shards, outages and stopped servers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from streamq import IdempotencyConflict, InvalidOption, OutcomeUnknown, QueueFull, RedisUnavailable, StreamQ
from streamq.client import flows
from streamq.embedded import EmbeddedServer
from streamq.keys import APPS
from tests.conftest import command
from tests.ports import free_port
from tests.running import clean, working


def accepted(app: StreamQ, task_type: str = "email") -> int:
    return app.inspector.type_stats(task_type).counters.get("accepted", 0)


async def test_the_same_key_is_the_same_task_whichever_way_it_comes(any_url: str) -> None:
    app = StreamQ("shop", any_url, shards=3)

    @app.task
    async def email(to: str, tags: set[str]) -> str:
        return to

    options = email.options(idempotency_key="order-42")
    first = options.enqueue("ada", {"a", "b", "c"})
    assert not first.duplicate
    handles = [
        options.enqueue("ada", {"c", "b", "a"}),
        await options.aenqueue(tags={"a", "b", "c"}, to="ada"),
        options.options(idempotency_key="order-42", priority="high").enqueue("ada", {"a", "b", "c"}),
        app.send("email", {"to": "ada", "tags": ["a", "b", "c"]}, idempotency_key="order-42"),
        *app.enqueue_many([options.bind("ada", {"a", "b", "c"})] * 2),
        *await app.aenqueue_many([options.bind("ada", {"a", "b", "c"})] * 2),
        StreamQ("shop", any_url, shards=3).send(
            "email", {"to": "ada", "tags": ["a", "b", "c"]}, idempotency_key="order-42"
        ),
    ]
    assert {handle.id for handle in handles} == {first.id}
    assert all(handle.duplicate for handle in handles)
    async with working(app):
        assert await first.aresult(5) == "ada"
    assert options.enqueue("ada", {"a", "b", "c"}).result(5) == "ada"  # also when it has ended
    assert accepted(app) == 1
    clean(app)


def test_another_process_gets_the_same_task(url: str) -> None:
    code = (
        "import sys; from streamq import StreamQ; "
        "print(StreamQ('shop', sys.argv[1]).send('email', {'n': 1}, idempotency_key='k').id)"
    )
    ids = {subprocess.check_output([sys.executable, "-c", code, url]) for _ in range(2)}
    assert len(ids) == 1


async def test_many_at_once_make_one_task(url: str) -> None:
    apps = [StreamQ("shop", url, shards=4) for _ in range(4)]
    handles = await asyncio.gather(
        *(app.asend("email", {"n": n}, idempotency_key=f"k{n}") for n in range(50) for app in apps)
    )
    assert len({handle.id for handle in handles}) == 50
    assert sum(not handle.duplicate for handle in handles) == 50


def test_a_key_of_another_task_is_a_conflict(app: StreamQ) -> None:
    first = app.send("email", {"n": 1}, idempotency_key="k")
    for task_type, arguments in (("email", {"n": 2}), ("image", {"n": 1})):
        with pytest.raises(IdempotencyConflict, match=f"belongs to task {first.id}, with another") as caught:
            app.send(task_type, arguments, idempotency_key="k")
        assert caught.value.task_id == first.id
    several = [
        app.bound("email", {"n": n}, idempotency_key=key) for n, key in ((1, "k"), (2, "k"), (3, "new"))
    ]
    with pytest.raises(IdempotencyConflict) as caught:
        app.enqueue_many(several)
    assert [getattr(handle, "id", None) for handle in caught.value.accepted][:2] == [first.id, None]
    assert accepted(app) == 2


def test_keys_come_before_limits(app: StreamQ) -> None:
    @app.task(max_backlog=1)
    async def email(n: int) -> None: ...

    first = email.options(idempotency_key="k").enqueue(1)
    assert email.options(idempotency_key="k").enqueue(1).id == first.id
    with pytest.raises(QueueFull):
        email.options(idempotency_key="other").enqueue(1)
    first.cancel()
    assert not email.options(idempotency_key="other").enqueue(1).duplicate


def test_options_that_cannot_be(app: StreamQ) -> None:
    for options, message in [
        ({"idempotency_key": ""}, "text of 1 to 200 bytes"),
        ({"idempotency_key": "ü" * 101}, "Hash longer values"),
        ({"idempotency_key": 42}, "text of 1 to 200 bytes"),
        ({"idempotency_key": "\udc80"}, "lone surrogates"),
        ({"idempotency_key": "k", "idempotency_window": "31d"}, "at most 30 days"),
        ({"idempotency_key": "k", "idempotency_window": 0}, "at least 1 s"),
        ({"idempotency_window": "1h"}, "needs an idempotency_key"),
        ({"idempotency_key": "k", "shard_key": "s"}, "exclude each other"),
        ({"durability": "replica"}, "must be 'master', 'aof' or 'replicas:1'"),
    ]:
        with pytest.raises(InvalidOption, match=message):
            app.send("email", {}, **options)  # type: ignore[arg-type]


def test_tasks_of_a_shard_key_share_a_shard(url: str) -> None:
    app = StreamQ("shop", url, shards=8)
    by_key = {
        key: {app.send("email", {}, shard_key=key).id.split(":")[1] for _ in range(5)}
        for key in (f"customer-{n}" for n in range(20))
    }
    assert all(len(shards) == 1 for shards in by_key.values())
    assert len(set.union(*by_key.values())) > 4


@pytest.mark.parametrize("numbers", [(1, 4), (4, 1), (2, 6, 3, 5)])
def test_a_key_is_found_where_it_was_before_the_number_of_shards_changed(
    url: str, numbers: tuple[int, ...]
) -> None:
    apps = [StreamQ("shop", url, shards=n) for n in numbers]
    first = [apps[0].send("email", {"n": n}, idempotency_key=f"k{n}").id for n in range(40)]
    for app in apps[1:]:
        again = [app.send("email", {"n": n}, idempotency_key=f"k{n}") for n in range(40)]
        assert [handle.id for handle in again] == first
        with pytest.raises(IdempotencyConflict):
            app.send("email", {"n": -1}, idempotency_key="k7")
    bound = [apps[-1].bound("email", {"n": n}, idempotency_key=f"k{n}") for n in range(41)]
    assert [handle.duplicate for handle in apps[-1].enqueue_many(bound)] == [True] * 40 + [False]


def test_an_older_release_hears_of_the_new_number(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both choose a key's shard by the record, so the old one finds what the new one has sent."""
    old, new = StreamQ("shop", url, shards=2), StreamQ("shop", url, shards=5)
    old.send("email", {}, idempotency_key="first")
    ids = [new.send("email", {"n": n}, idempotency_key=f"k{n}").id for n in range(30)]
    monkeypatch.setattr(flows, "FRESH", -1.0)  # the time has passed for which a record is believed
    assert [old.send("email", {"n": n}, idempotency_key=f"k{n}").id for n in range(30)] == ids


def test_a_damaged_record_of_the_app_is_survived(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = StreamQ("shop", url)
    first = app.send("email", {}, idempotency_key="k")
    monkeypatch.setattr(flows, "FRESH", -1.0)
    for raw in (b"\xff", b"[]"):
        command(url, "HSET", APPS, "shop", raw)
        assert app.send("email", {}, idempotency_key="k").id == first.id
    command(url, "DEL", APPS)
    assert app.send("email", {}, idempotency_key="k").id == first.id
    assert command(url, "HEXISTS", APPS, "shop") == 1


@pytest.fixture
def stoppable() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(port=free_port()) as server:
        yield server
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_server_that_is_stopped_during_the_call_and_goes_on(stoppable: EmbeddedServer, keyed: bool) -> None:
    """With a key: one task, always. Without: the first call may have been carried out after all."""
    app = StreamQ("shop", f"{stoppable.url}/0?socket_timeout=1", patience=0.2)
    app.send("email", {})
    key = "k" if keyed else None
    os.kill(stoppable.pid, signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown, match="unknown whether"):
        app.send("email", {"n": 1}, idempotency_key=key)
    os.kill(stoppable.pid, signal.SIGCONT)
    handle = app.send("email", {"n": 1}, idempotency_key=key)
    again = app.send("email", {"n": 1}, idempotency_key=key)
    assert (handle.id == again.id) is keyed
    if keyed:
        assert accepted(app) == 2
        clean(app)
    app.close()


async def test_stops_at_any_moment_make_one_task_for_each_key(stoppable: EmbeddedServer) -> None:
    """Producers whose calls end unknown again and again while the server is stopped and goes on.

    The promise: enqueue may be retried without duplicates.
    """
    app = StreamQ("shop", f"{stoppable.url}/0?socket_timeout=0.05", patience=0)
    over = threading.Event()

    def stutter() -> None:
        while not over.wait(0.01):
            os.kill(stoppable.pid, signal.SIGSTOP)
            time.sleep(0.07)  # longer than a reply may take
            os.kill(stoppable.pid, signal.SIGCONT)

    unknown = 0

    def persist(n: int) -> None:
        nonlocal unknown
        while True:
            try:
                app.send("email", {"n": n}, idempotency_key=f"k{n}")
            except RedisUnavailable as error:
                unknown += isinstance(error, OutcomeUnknown)
            else:
                return

    persist(-1)  # a busy machine takes its time over the first connection too
    thread = threading.Thread(target=stutter)
    thread.start()
    sent = 0
    try:
        while unknown < 20 and sent < 20_000:
            await asyncio.gather(*(asyncio.to_thread(persist, n) for n in range(sent, sent + 8)))
            sent += 8
    finally:
        over.set()
        thread.join()
    print(f"{unknown} of {sent} calls ended unknown")
    assert unknown >= 20
    direct = StreamQ("shop", stoppable.url)
    assert accepted(direct) == 1 + sent
    clean(direct)
