"""Memory: what a task costs, and that nothing grows."""

from __future__ import annotations

import asyncio

import pytest

from streamq import DeadSelection, StreamQ, WorkerOptions
from streamq.transport.address import Address
from tests.conftest import command
from tests.running import clean, serving, until

TO, SUBJECT, BODY = "ada@example.com", "Hi", "x" * 52


@pytest.mark.parametrize("delay", [None, 3600])
def test_what_a_task_costs(any_url: str, delay: int | None) -> None:
    """A ready task costs its payload and at most 40 bytes, a delayed one at most 200."""
    app = StreamQ("shop", any_url)
    app.send("email", {}, delay=delay)
    before = used(any_url)
    bound = app.bound("email", {"to": TO, "subject": SUBJECT, "body": BODY}, delay=delay)
    assert 95 <= len(bound.task.payload) <= 105
    app.enqueue_many([bound] * 10_000)
    overhead = (used(any_url) - before) / 10_000 - len(bound.task.payload)
    print(f"{'ready' if delay is None else 'delayed'}: payload + {overhead:.1f} bytes")
    assert overhead <= (40 if delay is None else 200)
    app.close()


def used(url: str) -> int:
    info = command(url, "INFO", "memory")
    assert isinstance(info, bytes)
    return int(info.split(b"used_memory:")[1].split(b"\r\n")[0])


@pytest.mark.parametrize("number", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_nothing_grows(url: str, number: int) -> None:
    """Many tasks through, some retried, delayed, cancelled: then every key is accounted for."""
    app = StreamQ("shop", url)

    @app.task(retention=1, max_attempts=2)
    async def work(n: int) -> None:
        if n % 100 == 0:
            raise OSError

    async with serving(app, WorkerOptions(concurrency=100, block=0.5)):
        for start in range(0, number, 5_000):
            await app.aenqueue_many(
                [
                    work.options(delay=0.1).bind(n) if n % 50 == 1 else work.bind(n)
                    for n in range(start, start + 5_000)
                ]
            )
            await until(lambda: app.inspector.type_stats("work").ready < 10_000, 60)
        handle = await work.options(delay="1h").aenqueue(1)
        await handle.acancel()
        await until(lambda: ended(app) == number + 1, 100)
        clean(app)
        await until(lambda: not any(b":results:" in key for key in keys(url)), 30)
        left = {key.decode().partition("}:")[2] for key in keys(url) if b"{" in key}
        left = {name for name in left if not any(kind in name for kind in _MORTAL)}
        left.discard("work:sampled")  # the daemon samples at each full minute: there may have been none
        streams = {f"work:{name}" for name in ("high", "normal", "low", "suspect")}
        state = {
            "work:counters",
            "work:policy",
            "work:dead",
            "work:letters",
            "work:gone",
            "work:groups",
            "work:buckets",
            "types",
            "workers",
            "heartbeats",
            "daemons",
        }
        assert left == streams | state
        dead = app.inspector.type_stats("work").dead
        assert dead == number // 100
        assert sum(1 for _ in app.admin.purge_in_steps(DeadSelection("work"))) >= number // 10_000
        for name in streams:
            assert command(url, "XLEN", f"streamq:{{shop:0}}:{name}") == 0
    await app.aclose()
    assert len([key for key in keys(url) if b":writer:" in key]) < 20
    assert Address.parse(url).kind == "unix"
    await asyncio.sleep(0)


_MORTAL = (":writer:", ":minute:", ":quarter:")
"""Kinds of keys that end by themselves, and of which there is a bounded number."""


def ended(app: StreamQ) -> int:
    stats = app.inspector.type_stats("work")
    return stats.counters.get("completed", 0) + stats.dead + stats.counters.get("cancelled", 0)


def keys(url: str) -> list[bytes]:
    found = command(url, "KEYS", "*")
    assert isinstance(found, list)
    return found
