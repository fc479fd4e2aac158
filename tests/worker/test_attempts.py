"""One attempt may run several deliveries: each ends by its own, and a fenced one writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tenacity import wait_fixed

from streamq import Hook, Outcome, StreamQ, WorkerOptions
from streamq.hooks import name_of
from streamq.model.delivery import Delivery
from streamq.resources.declared import Resources
from streamq.resources.opened import OpenResources
from streamq.telemetry.counters import Counters
from streamq.worker.attempt import Attempt
from streamq.worker.executors import Executors
from streamq.worker.in_flight import Held
from streamq.worker.local_limits import LocalLimits
from streamq.worker.observers import Observers
from streamq.worker.runner import Runner
from streamq.worker.server_clocks import ServerClocks
from tests.running import until


class Ended(Hook):
    def __init__(self) -> None:
        self.seen: list[tuple[int, str | None]] = []

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        self.seen.append((task.attempt, None if outcome is None else name_of(outcome)))


@asynccontextmanager
async def running(app: StreamQ, ended: Ended) -> AsyncGenerator[tuple[Runner, list[Held]]]:
    """A runner with one slot, and what it has put to be settled."""
    settled: list[Held] = []
    clocks, executors = (
        ServerClocks(),
        Executors.of(WorkerOptions(concurrency=1), None, isolate_suspects=False, lasting=False),
    )
    observers = Observers([ended], clocks, lambda held, _: settled.append(held), "w")
    runner = Runner(
        app.registry,
        "w",
        LocalLimits(1),
        executors,
        clocks,
        Counters(),
        observers,
        on_idle=lambda: None,
        opened=OpenResources(Resources()),
    )
    runner.start()
    try:
        yield runner, settled
    finally:
        runner.close()
        await runner.ended()


def several(*attempts: int) -> list[Held]:
    return [
        Held(Delivery("work", 0, f"n{n}-0", f"n{n}-0", b"{}", attempt=attempt))
        for n, attempt in enumerate(attempts, 1)
    ]


def put(runner: Runner, *held: Held) -> Attempt:
    attempt = Attempt(held[0], held[1:])
    runner._queue.append(attempt)
    runner._idle_slots.wake()
    return attempt


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", "unix:///nowhere.sock")


async def test_one_call_ends_them_all_and_a_failure_counts_for_each_by_its_own(app: StreamQ) -> None:
    fails, calls, ended = True, list[int](), Ended()

    @app.task(max_attempts=3, backoff=wait_fixed(1))
    async def work() -> None:
        calls.append(1)
        if fails:
            raise ValueError

    async with running(app, ended) as (runner, settled):
        await until(lambda: len(runner._slots) == 1)
        held = several(1, 2, 3)
        put(runner, *held)
        await until(lambda: len(settled) == 3)
        assert calls == [1]
        assert ended.seen == [(1, "retried"), (2, "retried"), (3, "dead")]
        assert [one.failed is not None and one.failed.failure.error for one in held] == ["ValueError"] * 3
        fails = False
        put(runner, *several(1, 1))
        await until(lambda: len(settled) == 5)
        assert ended.seen[3:] == [(1, "completed")] * 2
        assert runner.idle


async def test_a_fenced_delivery_writes_nothing_and_stops_only_an_attempt_of_its_own(app: StreamQ) -> None:
    ended, started, release = Ended(), asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        started.set()
        await release.wait()

    async with running(app, ended) as (runner, settled):
        first, second = several(1, 2)
        attempt = put(runner, first, second)
        await started.wait()
        runner.fence(first)
        runner.cancel(second)  # one of several: the others' work goes on
        assert attempt.stop is None
        release.set()
        await until(lambda: len(ended.seen) == 2)
        assert settled == [second]
        assert ended.seen == [(1, None), (2, "completed")]

        started.clear()
        release.clear()
        alone, queued = several(1, 1)
        attempt = put(runner, alone)
        await started.wait()
        waiting = put(runner, queued)
        runner.fence(alone)
        runner.fence(queued)
        assert (attempt.stop, waiting.stop) == ("fenced", "fenced")
        await until(lambda: len(ended.seen) == 4)
        assert settled == [second]
        assert runner.idle


async def test_what_ends_a_delivery_leaves_no_circle_of_garbage(app: StreamQ) -> None:
    """Guard: a reference from a delivery to its attempt would leave one for each task to the collector."""
    import gc
    import weakref

    @app.task(retention=0)
    async def work() -> None: ...

    ended = Ended()
    async with running(app, ended) as (runner, settled):
        gc.disable()
        try:
            [held] = several(1)
            gone = weakref.ref(held), weakref.ref(put(runner, held))
            await until(lambda: len(settled) == 1)
            assert settled.pop() is held
            del held
            [other] = several(1)
            put(runner, other)  # the slot's own variables are another's now
            await until(lambda: len(settled) == 1)
            assert [one() for one in gone] == [None, None]
        finally:
            gc.enable()
