"""A policy that another program changes, and what that does to tasks in hand, scheduled and retried."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from streamq import QueueFull, Retry, StreamQ
from streamq.keys import type_keys
from tests.conftest import command
from tests.running import OPTIONS, QUICK, clean, serving, tending, until, working

SLOW_BEATS = replace(OPTIONS, heartbeat=30.0, block=0.2)
"""Nothing but a renewal tells this worker of the change."""


class Work:
    """A type `work` whose runs are counted, and wait until they are released."""

    def __init__(self, app: StreamQ, **policy: Any) -> None:
        self.starts: Counter[int] = Counter()
        self.release = asyncio.Event()

        async def work(n: int) -> int:
            self.starts[n] += 1
            await self.release.wait()
            return n

        self.task = app.task(**policy)(work)

    async def all_run(self, handles: list[Any]) -> None:
        """Every task has been started once, and only once."""
        self.release.set()
        for handle in handles:
            await handle.aresult(10)
        assert set(self.starts.values()) == {1}


def registering(url: str, **policy: Any) -> Callable[[int], Awaitable[Any]]:
    """Another program with another policy: it registers with its first task."""
    other = StreamQ("shop", url)

    @other.task(**policy)
    async def work(n: int) -> int:
        return n

    return work.aenqueue


def stored(url: str, name: str) -> bytes | None:
    found = command(url, "HGET", type_keys("shop", 0, "work").policy, name)
    assert found is None or isinstance(found, bytes)
    return found


async def test_a_shorter_lease_takes_nothing_from_a_worker_that_has_not_heard_of_it(url: str) -> None:
    app = StreamQ("shop", url)
    work = Work(app, lease=9)
    async with tending(app), working(app, SLOW_BEATS):
        handles = [await work.task.aenqueue(n) for n in range(5)]
        await until(lambda: len(work.starts) == 5)
        handles.append(await registering(url, lease=0.3)(5))
        assert stored(url, "lease_ms") == b"300"
        await asyncio.sleep(1.5)  # five of the new leases, half of an old renewal
        await work.all_run(handles)
    assert app.inspector.type_stats("work").counters.get("reclaimed", 0) == 0
    clean(app)


async def test_a_shorter_lease_takes_nothing_from_a_worker_that_was_idle(url: str) -> None:
    app = StreamQ("shop", url)
    work = Work(app, lease=9)
    async with tending(app), working(app, SLOW_BEATS):
        enqueue = registering(url, lease=0.3)
        handles = [await enqueue(n) for n in range(3)]
        await until(lambda: len(work.starts) == 3)
        await asyncio.sleep(1.5)
        await work.all_run(handles)
    assert app.inspector.type_stats("work").counters.get("reclaimed", 0) == 0
    clean(app)


async def test_a_worker_renews_under_the_shorter_lease_as_soon_as_it_hears_of_it(url: str) -> None:
    """Guard: the next renewal goes by the lease that this one has told, before a heartbeat promises it."""
    app = StreamQ("shop", url)
    work = Work(app, lease=2.4)
    async with tending(app), working(app, replace(OPTIONS, heartbeat=0.2)):
        handles = [await work.task.aenqueue(n) for n in range(5)]
        await until(lambda: len(work.starts) == 5)
        handles.append(await registering(url, lease=0.9)(5))
        await asyncio.sleep(3)
        await work.all_run(handles)
    assert app.inspector.type_stats("work").counters.get("reclaimed", 0) == 0


async def test_programs_that_disagree_about_the_lease_lose_nothing(url: str) -> None:
    app = StreamQ("shop", url)
    work = Work(app, lease=9)
    async with tending(app), working(app, SLOW_BEATS):
        handles = [await work.task.aenqueue(n) for n in range(3)]
        for n in range(3, 9):
            handles.append(await registering(url, lease=0.3 if n % 2 else 9)(n))
            await asyncio.sleep(0.3)
        await work.all_run(handles)
    assert app.inspector.type_stats("work").counters.get("reclaimed", 0) == 0


async def test_fewer_losses_or_attempts_end_nothing_that_has_not_failed_again(url: str) -> None:
    """What was retried under the old policy is judged by the worker's own when it fails again."""
    app, tries = StreamQ("shop", url), 0

    @app.task(max_attempts=5, max_lost=5)
    async def work(n: int) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Retry(after=0.2)
        return tries

    async with serving(app):
        handle = await work.aenqueue(0)
        await until(lambda: tries > 0)
        await registering(url, max_attempts=1, max_lost=1)(1)
        assert await handle.aresult(10) >= 3
    assert app.inspector.type_stats("work").dead == 0


async def test_a_limit_that_is_lowered_refuses_what_comes_and_keeps_what_is_there(url: str) -> None:
    app = StreamQ("shop", url)
    work = Work(app, max_backlog=100)
    handles = [await work.task.aenqueue(n) for n in range(4)]
    handles.append(await work.task.options(delay=0.2).aenqueue(4))
    with pytest.raises(QueueFull):
        await registering(url, max_backlog=2, rate_limit="1/1h")(5)
    async with serving(app):  # the worker registers its own again
        await until(lambda: len(work.starts) == 5)
        await work.all_run(handles)
    assert app.inspector.type_stats("work").counters["accepted"] == 5


async def test_a_lifetime_goes_with_the_task(url: str) -> None:
    """What was accepted under a policy without `expires` does not expire, and the other way round."""
    app = StreamQ("shop", url)
    work = Work(app)
    handle = await work.task.aenqueue(0)
    expiring = await registering(url, expires=0.05)(1)
    await asyncio.sleep(0.1)
    async with serving(app):
        await until(lambda: expiring.status() == "expired")
        await work.all_run([handle])


async def test_longer_leases_count_at_once(url: str) -> None:
    app = StreamQ("shop", url)
    work = Work(app, lease=0.6)
    async with tending(app, QUICK), working(app):
        handles = [await work.task.aenqueue(n) for n in range(3)]
        await until(lambda: len(work.starts) == 3)
        handles.append(await registering(url, lease=30)(3))
        await asyncio.sleep(1.2)
        await work.all_run(handles)
