"""Waits of every kind that have begun before their master changes: each gets what it waits for."""

from __future__ import annotations

import asyncio

import pytest

from streamq import StreamQ, get_context
from tests.running import clean, serving, until
from tests.topology.conftest import SHARDS, Servers
from tests.topology.test_failover import change_master


@pytest.mark.parametrize("how", ["killed", pytest.param("replaced", marks=pytest.mark.long)])
async def test_a_wait_outlives_a_failover(servers: Servers, app: StreamQ, how: str) -> None:
    go, running = asyncio.Event(), set[str]()

    @app.task
    async def slow(name: str) -> str:
        running.add(name)
        await go.wait()
        get_context().emit("gone on")
        return name

    @app.task
    async def asks(name: str) -> str:
        running.add(name)
        return name + await get_context().wait("answer", str, timeout="1m")

    @app.task
    async def rests() -> str:
        running.add("rests")
        await get_context().sleep("3s")
        return "rested"

    @app.task
    async def joined(parts: list[str]) -> str:
        return "".join(parts)

    wf = app.flow("both")
    wf.add(joined.bind([wf.add(slow.bind(f"n{n}"), name=f"n{n}").output for n in range(2)]))

    async def told() -> list[object]:
        return [event.value async for event in watched.events()]

    def in_thread() -> str:
        return results[0].result(timeout=60)

    async with serving(app):
        results = [await slow.aenqueue(f"r{n}") for n in range(SHARDS)]
        watched, question, rest = await slow.aenqueue("w"), await asks.aenqueue("q"), await rests.aenqueue()
        flow = await wf.astart()
        waits = [asyncio.ensure_future(one.aresult(60)) for one in (*results, question, rest)]
        of_flow, events = asyncio.ensure_future(flow.aresult(60)), asyncio.ensure_future(told())
        blocking = asyncio.create_task(asyncio.to_thread(in_thread))
        await until(lambda: running >= {"r0", "r1", "r2", "w", "q", "rests", "n0", "n1"})
        await until(lambda: question.status() == rest.status() == "scheduled")
        await asyncio.to_thread(change_master, servers, how)
        go.set()
        await question.asignal("answer", "!")
        assert await asyncio.gather(*waits) == ["r0", "r1", "r2", "q!", "rested"]
        assert (await of_flow, await blocking) == ("n0n1", "r0")
        assert (await events)[-1] == "completed"
    clean(app)
