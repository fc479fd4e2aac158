"""Flows in a queue under test: they run to their end in the test's own thread, whatever its nodes do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq import FlowCancelled, FlowFailed, StreamQ, get_context
from streamq.embedded import EmbeddedServer
from streamq.flows.inputs import Failure
from streamq.testing import Queue


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as found:
        yield found


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", shards=2)


@pytest.fixture
def queue(app: StreamQ, server: EmbeddedServer) -> Iterator[Queue]:
    with Queue(app, server) as found:
        yield found
        assert app.inspector.audit().problems == []


def test_nodes_run_with_what_they_need(app: StreamQ, queue: Queue) -> None:
    @app.task
    def numbers(n: int) -> list[int]:
        return list(range(n))

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.task
    def total(all_of: list[int]) -> int:
        return sum(all_of)

    wf = app.flow("sum")
    doubled = wf.map(double, wf.add(numbers.bind(450)).output)
    wf.add(total.bind(doubled.output))
    handle = wf.start()
    assert len(queue.run()) == 452
    assert handle.result(0) == 2 * sum(range(450))
    assert handle.info().imbalance == 0


async def test_nodes_run_in_the_tests_event_loop(app: StreamQ, queue: Queue) -> None:
    @app.task
    async def one(n: int) -> int:
        return n + 1

    wf = app.flow("chain")
    wf.add(one.bind(wf.add(one.bind(1)).output))
    handle = await wf.astart()
    assert [task.result for task in await queue.arun()] == [2, 3]
    assert await handle.aresult(0) == 3


def test_a_failure_skips_what_waits_and_a_retry_goes_on(app: StreamQ, queue: Queue) -> None:
    broken = [True]
    told: list[Failure] = []

    @app.task(max_attempts=2)
    def first(n: int) -> int:
        if broken:
            raise ValueError("no")
        return n

    @app.task
    def second(n: int) -> int:
        return n + 1

    @app.task
    def alarm(why: Failure) -> None:
        told.append(why)

    wf = app.flow("fails")
    wf.add(second.bind(wf.add(first.bind(1)).output))
    wf.on_failure(alarm.bind(wf.failure))
    handle = wf.start()
    with pytest.raises(ValueError, match="no"):
        queue.run()
    with pytest.raises(FlowFailed, match="first"):
        handle.result(0)
    assert [why.error for why in told] == ["ValueError: no"]
    broken.clear()
    assert handle.retry()
    assert [task.type for task in queue.run()] == ["first", "second"]
    assert handle.result(0) == 2


def test_nodes_for_later_run_when_time_passes(app: StreamQ, queue: Queue) -> None:
    @app.task
    def one(n: int) -> int:
        get_context()
        return n + 1

    wf = app.flow("later")
    wf.add(one.options(delay="2h").bind(wf.add(one.options(delay="1h").bind(1)).output))
    handle = wf.start()
    assert queue.run() == []
    assert len(queue.advance("90m")) == 1
    assert handle.status() == "running"
    assert len(queue.advance("90m")) == 1
    assert handle.result(0) == 3
    queue.advance("2d")
    assert handle.status() == "unknown"  # no longer kept


def test_a_lost_node_runs_again_and_a_cancelled_flow_ends(app: StreamQ, queue: Queue) -> None:
    @app.task
    def one(n: int) -> int:
        return n + 1

    wf = app.flow("lost")
    wf.add(one.bind(wf.add(one.bind(1)).output))
    handle = wf.start()
    queue.lose()
    assert len(queue.run()) == 2
    assert handle.result(0) == 3
    handle = wf.start()
    assert handle.cancel()
    assert queue.run() == []
    with pytest.raises(FlowCancelled):
        handle.result(0)


def test_a_node_runs_a_flow_of_its_own(app: StreamQ, queue: Queue) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.task
    async def outer(n: int) -> int:
        wf = app.flow("inner")
        slow = wf.sleep("1h")
        wf.add(double.bind(n), after=slow)
        return int(await get_context().run_flow(wf))

    wf = app.flow("outer")
    wf.add(double.bind(wf.add(outer.bind(3)).output))
    handle = wf.start()
    queue.run()
    assert handle.status() == "running"
    queue.advance("1h")
    assert handle.result(0) == 12
