"""Flows on a live server: each node runs once those that it waits for have ended, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from tenacity import wait_none

from streamq import FlowCancelled, FlowFailed, FlowHandle, Lane, StreamQ, get_context
from streamq.errors import (
    ResultTimeout,
)
from streamq.flows.inputs import Failure
from streamq.transport.batching import QuestionBatcher
from streamq.worker.flow_nodes import FlowNodes
from tests.conftest import command
from tests.flows import handlers
from tests.flows.stage import Diamond, books, ended, over
from tests.running import OPTIONS, clean, serving, tending, until, working


async def test_each_node_runs_after_those_it_waits_for(app: StreamQ) -> None:
    diamond = Diamond(app)
    async with serving(app):
        handle = await diamond.wf.astart()
        assert await handle.aresult(20) == [2, 3]
        assert await handle.aresult(20, node="left") == 2
    assert diamond.ran[0] == "top"
    assert diamond.ran[-1] == "join"
    assert sorted(diamond.ran) == ["join", "left", "right", "top"]
    info = handle.info()
    assert (info.nodes, info.done, info.skipped, info.waiting, info.released) == (5, 4, 1, 0, 0)
    assert [one.state for one in handle.nodes()] == ["completed"] * 4 + ["skipped"]
    clean(app)


def test_it_is_started_and_read_without_an_event_loop(app: StreamQ) -> None:
    diamond = Diamond(app)
    handle = diamond.wf.start()
    assert handle.status() == "running"
    assert [one.state for one in handle.nodes()] == ["released", "waiting", "waiting", "waiting", "waiting"]
    with pytest.raises(ResultTimeout, match="0 of 5 nodes have ended, 1 were released"):
        handle.result(0.05)
    assert app.flow_handle(handle.id) == handle
    assert handle.cancel()
    assert handle.status() == "cancelled"
    assert not handle.cancel()
    books(handle)
    with pytest.raises(FlowCancelled):
        handle.result(1)
    clean(app)


@pytest.mark.parametrize("broken", ["top", "left", "right", "join"])
async def test_a_node_that_fails_leaves_nobody_waiting(app: StreamQ, broken: str) -> None:
    diamond = Diamond(app)
    diamond.broken = {broken}
    async with serving(app):
        handle = await diamond.wf.astart()
        with pytest.raises(FlowFailed, match=f"node '{broken}' .*ValueError: {broken} is broken"):
            await handle.aresult(20)
        await until(lambda: len([one for one in diamond.ran if one.startswith("alarm")]) == 1)
        assert diamond.ran[-1] == f"alarm of {broken}: ValueError: {broken} is broken"
        assert await ended(handle) == "failed"
        # Its cause is gone: only what had not completed runs.
        before = list(diamond.ran)
        diamond.broken = set()
        assert await handle.aretry()
        assert await handle.aresult(20) == [2, 3]
        assert not set(before) & set(diamond.ran[len(before) :])
        assert sorted(one for one in diamond.ran if "alarm" not in one) == ["join", "left", "right", "top"]
    books(handle)
    clean(app)


async def test_only_the_failed_node_runs_again_and_with_its_memos(app: StreamQ) -> None:
    ran: list[str] = []
    fixed: list[bool] = []

    async def charge() -> int:
        ran.append("charge")
        return 7

    @app.task(max_attempts=1)
    async def step(n: int, before: int | None = None) -> int:
        ran.append(f"step {n}")
        if n == 7:
            await get_context().step("charge", charge)
            if not fixed:
                raise ValueError
        return n

    wf = app.flow("ten")
    node = wf.add(step.bind(0))
    for n in range(1, 10):
        node = wf.add(step.bind(n, node.output))
    async with serving(app):
        handle = await wf.astart()
        assert await ended(handle) == "failed"
        assert ran == [*(f"step {n}" for n in range(8)), "charge"]
        fixed.append(True)
        await handle.aretry()
        assert await handle.aresult(20) == 9
        assert ran[9:] == ["step 7", "step 8", "step 9"]
        assert not await handle.aretry()
    books(handle)
    clean(app)


async def test_a_failure_is_handed_on(app: StreamQ) -> None:
    @app.task(max_attempts=1)
    async def fetch(n: int) -> int:
        if n == 1:
            raise ValueError("no")
        return n

    @app.task
    async def total(parts: list[int | Failure], one: int | Failure) -> list[str]:
        return [type(part).__name__ for part in [*parts, one]]

    wf = app.flow("tolerant")
    many = wf.map(fetch, [0, 1, 2], on_error="continue", name="many")
    one = wf.add(fetch.bind(1), on_error="continue")
    wf.add(total.bind(many.output, one.outcome))  # type: ignore[arg-type]
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(20) == ["int", "Failure", "int", "Failure"]
        found = [one async for one in handle.aresults("many")]
        assert [found[0], found[2]] == [0, 2]
        assert found[1].error == "ValueError: no"
        assert found[1].node == "many[1]"
    assert handle.info().failed == 2
    books(handle)
    clean(app)


@pytest.mark.parametrize("number", [0, 1, 199, 200, 201, 1000])
async def test_a_map_has_its_results_in_order(app: StreamQ, number: int) -> None:
    @app.task
    async def items() -> list[int]:
        return list(range(number))

    @app.task
    async def double(n: int, by: int) -> int:
        return n * by

    @app.task
    async def total(parts: list[int]) -> int:
        assert parts == sorted(parts)
        return sum(parts)

    wf = app.flow("map")
    wf.add(total.bind(wf.map(double, wf.add(items.bind()), fixed={"by": 2}, name="own").output), name="a")
    wf.add(total.bind(wf.map(double, range(number), fixed={"by": 3}, name="given").output), name="b")
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(60) == {"a": number * (number - 1), "b": number * (number - 1) * 3 // 2}
        assert [one async for one in handle.aresults("given")] == [3 * n for n in range(number)]
    assert handle.info().nodes == 5 + 2 * number
    books(handle)
    clean(app)


async def test_a_map_over_what_is_no_list_fails_the_flow(app: StreamQ) -> None:
    @app.task
    async def items() -> Any:
        return {"a": 1}

    @app.task
    async def double(n: int) -> int:
        return n * 2

    wf = app.flow("map")
    wf.map(double, wf.add(items.bind()))
    async with serving(app):
        handle = await wf.astart()
        assert await ended(handle) == "failed"
    assert handle.info().cause == "double"
    clean(app)


async def test_what_a_worker_leaves_undone_a_daemon_does(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each worker were killed between its settlement and what follows from it."""
    monkeypatch.setattr(FlowNodes, "settled", lambda *_: None)
    diamond = Diamond(app)
    async with serving(app):
        handle = await diamond.wf.astart()
        assert await handle.aresult(30) == [2, 3]
    assert sorted(diamond.ran) == ["join", "left", "right", "top"]
    clean(app)


async def test_every_end_of_a_task_reaches_its_flow(app: StreamQ, url: str) -> None:
    """Cancelled, expired, dead by its losses, and gone behind everybody's back."""

    @app.task(lease=0.3, max_lost=1)
    async def node() -> None: ...

    def flow(expires: float | None = None) -> FlowHandle:
        wf = app.flow("ends")
        wf.add((node if expires is None else node.options(expires=expires)).bind()).then(node.bind())
        return wf.start()

    def task_of(handle: FlowHandle) -> str:
        return handle.nodes()[0].task

    cancelled = flow()
    assert app.handle(task_of(cancelled)).cancel() == "cancelled"
    expired = flow(expires=0.01)
    group = (
        "XREADGROUP",
        "GROUP",
        "workers",
        "gone",
        "COUNT",
        "1",
        "STREAMS",
        f"streamq:{{{app.name}:0}}:node:normal",
        ">",
    )
    async with tending(app):
        await until(over(cancelled))
        await until(over(expired))
        lost = flow()
        await until(lambda: bool(command(url, *group)))
        await until(over(lost))
    states = [one.nodes()[0].state for one in (cancelled, expired, lost)]
    assert states == ["cancelled", "expired", "dead"]
    for handle in (cancelled, expired, lost):
        assert handle.status() == "failed"
        assert handle.nodes()[1].state == "skipped"
        books(handle)


async def test_cancel_ends_what_runs_and_skips_the_rest(app: StreamQ) -> None:
    started = asyncio.Event()

    @app.task
    async def slow() -> None:
        started.set()
        await asyncio.sleep(60)

    @app.task
    async def never() -> None: ...

    @app.task
    async def one(n: int) -> int:
        return n

    wf = app.flow("cancel")
    node = wf.add(slow.bind())
    wf.map(one, range(10_000), after=node)
    for _ in range(50):
        wf.add(never.options(delay=60).bind())
    async with serving(app):
        handle = await wf.astart()
        await started.wait()
        assert await handle.acancel()
        assert await ended(handle) == "cancelled"
    assert handle.info().waiting == 0
    assert handle.nodes()[0].state == "cancelled"
    clean(app)


async def test_fail_fast_cancels_what_runs(app: StreamQ) -> None:
    started = asyncio.Event()

    @app.task
    async def slow() -> None:
        started.set()
        await asyncio.sleep(60)

    @app.task(max_attempts=1)
    async def broken() -> None:
        await started.wait()
        raise ValueError

    wf = app.flow("fast", fail_fast=True)
    wf.group(slow.bind(), broken.bind())
    async with serving(app):
        handle = await wf.astart()
        assert await ended(handle) == "failed"
    assert [one.state for one in handle.nodes()] == ["cancelled", "dead"]
    clean(app)


async def test_nodes_pass_the_gate_of_their_lane(app: StreamQ) -> None:
    running: list[int] = []

    @app.task(lane=Lane("customer", running=1))
    async def mail(customer: str, n: int) -> int:
        running.append(1)
        assert sum(running) == 1
        await asyncio.sleep(0.005)
        running.append(-1)
        return n

    wf = app.flow("lanes")
    nodes = [wf.add(mail.bind("acme", n)) for n in range(20)]
    wf.add(mail.bind("acme", 99), after=nodes)
    async with serving(app):
        handle = await wf.astart()
        assert await handle.aresult(30) == 99
    books(handle)
    clean(app)


async def test_in_threads_and_processes(url: str) -> None:
    app = handlers.at(url)
    wf = app.flow("processes")
    wf.add(handlers.in_process.bind(wf.add(handlers.plain.bind(2)).output))
    async with serving(app):
        number, process = await (await wf.astart()).aresult(30)
    assert number == 3
    assert process != os.getpid()
    clean(app)


async def test_a_result_that_is_too_large_ends_the_node(
    app: StreamQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamq.flows.inputs.MOST_BYTES", 1000)
    monkeypatch.setattr("streamq.flows.inputs.read_results.__defaults__", (1000,))

    @app.task
    async def big() -> str:
        return "x" * 2000

    @app.task
    async def use(text: str) -> int:
        return len(text)

    wf = app.flow("big")
    wf.add(use.bind(wf.add(big.bind()).output))
    async with serving(app):
        handle = await wf.astart()
        with pytest.raises(FlowFailed, match="more than 1,000 bytes"):
            await handle.aresult(20)
    clean(app)


async def test_an_attempt_that_fails_is_no_end(app: StreamQ) -> None:
    @app.task(max_attempts=3, backoff=wait_none())
    async def flaky() -> int:
        if get_context().attempt < 3:
            raise ValueError
        return get_context().attempt

    @app.task
    async def after(n: int) -> int:
        return n

    wf = app.flow("flaky")
    wf.add(after.bind(wf.add(flaky.bind()).output))
    async with serving(app):
        assert await (await wf.astart()).aresult(20) == 3
    clean(app)


async def test_a_worker_that_stops_has_advanced_what_it_settled(app: StreamQ) -> None:
    diamond = Diamond(app)
    handle = diamond.wf.start()
    async with working(app, OPTIONS):
        await until(lambda: len(diamond.ran) >= 1)
    assert all(one.state != "waiting" for one in handle.nodes()[1:3])


async def test_nodes_of_many_flows_share_round_trips(app: StreamQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they need of others, and that they have ended: what comes while a call is in flight goes
    together."""
    trips: list[int] = []
    ask = QuestionBatcher._ask

    async def sent(self: QuestionBatcher, batch: list[Any]) -> None:
        trips.append(len(batch))
        await ask(self, batch)

    @app.task
    async def next_of(n: int) -> int:
        return n + 1

    handles = []
    for n in range(50):
        wf = app.flow("two")
        wf.add(next_of.bind(wf.add(next_of.bind(n)).output))
        handles.append(await wf.astart())
    async with serving(app):
        monkeypatch.setattr(QuestionBatcher, "_ask", sent)
        for handle in handles:
            await until(lambda handle=handle: handle.status() == "completed")  # type: ignore[misc]
    assert sum(trips) >= 3 * len(handles), "a call for what the second needs, and one for each end"
    assert len(trips) < sum(trips) / 2
    assert await handles[7].aresult(20) == 9
    clean(app)
