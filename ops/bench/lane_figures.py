"""Lanes at size: bytes of a parked task, the throughput of a fair type with one tenant, how long a newcomer
waits behind a million tasks of another, and the longest call of an audit.

Run: python -m ops.bench.lane_figures [--parked 1000000] [--only memory speed newcomer audit]. It starts
servers of its own. Worker and daemon are in this process, so throughput says only how the two types compare.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from ops.bench.lanes import LANE, PAYLOAD, Bench
from streamq import Daemon, DaemonOptions, Lane, StreamQ, Worker, WorkerOptions
from streamq.calls import producer as producer_calls
from streamq.control.inspector import Inspector
from streamq.embedded import EmbeddedServer
from streamq.options.lane import Lane as Rule
from streamq.options.lane import gate
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport

A_CALL: Final = 500
AT_ONCE: Final = 10


def memory(parked: int) -> None:
    """Print the bytes of a parked task beside its payload, in one lane and in as many lanes as tasks."""
    for lanes in (1, parked):
        for what, rules in (
            ("their own limit", gate(None, None, Rule("n", running=0))),
            ("the type's limit", gate(0, None, Rule("n"))),
        ):
            with EmbeddedServer() as server:
                bench = Bench(SyncTransport(Address.parse(server.url)))
                bench.begin(rules)
                bench.enqueue(LANE, 1, 1, 1)
                before = used(bench)
                bench.enqueue(LANE, A_CALL, parked, lanes)
                each = (used(bench) - before) / parked - len(PAYLOAD)
            print(f"parked in {lanes:,} lanes, waiting for {what}: payload + {each:.0f} bytes", flush=True)


def audit(parked: int) -> None:
    """Print the processor time of the longest calls of an audit of so many parked tasks in one lane."""
    with EmbeddedServer() as server:
        transport = SyncTransport(Address.parse(server.url))
        bench = Bench(transport)
        bench.begin(gate(100, None, Rule("n", running=1)))
        transport.run(producer_calls.announce("bench", 1))
        bench.enqueue(LANE, A_CALL, parked, 1)
        calls, run = list[float](), transport.run

        def measured(call: Any, **how: Any) -> Any:
            answer: list[Any] = []
            calls.append(bench.used(lambda: answer.append(run(call, **how))) / 1000)
            return answer[0]

        transport.run = measured  # type: ignore[method-assign]
        found = Inspector(transport, "bench", 1).audit().problems
    calls.sort()
    median = statistics.median(calls)
    longest = ", ".join(f"{took:.1f}" for took in calls[-5:])
    told = f"median {median:.1f}, the longest {longest} ms; {len(found)} findings"
    print(f"an audit of {parked:,} parked in one lane: {len(calls):,} calls, {told}")


def used(bench: Bench) -> int:
    told = bench.command("INFO", "memory").decode()
    return int(told.partition("used_memory:")[2].split()[0])


class Shop:
    """An app with a plain and a fair type; handlers sleep `seconds`."""

    def __init__(self, url: str, seconds: float) -> None:
        self.app = StreamQ("bench", url)
        self.ended = 0
        self.starts: dict[str, float] = {}
        self.plain: Any = self.app.task(name="plain")(self._handler(seconds))
        self.fair: Any = self.app.task(name="work", lane=Lane("n", fair=True))(self._handler(seconds))

    def _handler(self, seconds: float) -> Callable[..., Any]:
        async def handler(n: str) -> None:
            self.starts.setdefault(n, time.monotonic())
            if seconds:
                await asyncio.sleep(seconds)
            self.ended += 1

        return handler

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        daemon = Daemon(self.app.address, DaemonOptions(discover_interval=0.5))
        worker = Worker(self.app, WorkerOptions(concurrency=AT_ONCE))
        running = [asyncio.create_task(service.run()) for service in (daemon, worker)]
        await asyncio.gather(daemon.ready.wait(), worker.ready.wait())
        try:
            yield
        finally:
            worker.stop()
            daemon.stop()
            await asyncio.gather(*running)

    async def rate(self, task: Any, tasks: int) -> float:
        """Enqueue so many tasks of one tenant while the type is paused; return how many then end a second."""
        await self.app.aadmin.pause(task.name)
        await asyncio.sleep(1)  # a pause is in force within a second
        want, self.starts = self.ended + tasks, {}
        await self.app.aenqueue_many([task.bind("a") for _ in range(tasks)])
        await self.app.aadmin.resume(task.name)
        while self.ended < want:  # noqa: ASYNC110 - an event would cost each handler a step
            await asyncio.sleep(0.005)
        return tasks / (time.monotonic() - self.starts["a"])


async def speed(seconds: float, tasks: int, rounds: int) -> None:
    """Print how fast a fair type with one tenant is beside a plain one; the two take turns."""
    with EmbeddedServer() as server:
        shop = Shop(server.url, seconds)
        async with shop.serving():
            await shop.rate(shop.plain, tasks)
            await shop.rate(shop.fair, tasks)  # the daemon learns how much the workers need
            pairs = [
                (await shop.rate(shop.plain, tasks), await shop.rate(shop.fair, tasks)) for _ in range(rounds)
            ]
    plain, fair = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratio = statistics.median(fair / plain for plain, fair in pairs)
    print(
        f"handlers of {seconds * 1000:g} ms: plain {plain:,.0f}/s, fair {fair:,.0f}/s; {ratio:.2f}",
        flush=True,
    )


async def newcomer(parked: int, calls: int) -> None:
    """Print how long tasks of tenant b wait while tenant a has a million waiting."""
    waits: list[float] = []
    with EmbeddedServer() as server:
        shop = Shop(server.url, 0.001)
        await shop.fair.aenqueue("a")
        Bench(SyncTransport(Address.parse(server.url))).enqueue('{"lane": "a"}', A_CALL, parked)
        async with shop.serving():
            await asyncio.sleep(3)  # the window is what the workers need
            for n in range(calls):
                called = time.monotonic()
                await shop.fair.options(lane="b").aenqueue(f"b{n}")
                while f"b{n}" not in shop.starts:  # noqa: ASYNC110 - handlers note only when they start
                    await asyncio.sleep(0.001)
                waits.append((shop.starts[f"b{n}"] - called) * 1000)
                await asyncio.sleep(max(0.0, 1 - (time.monotonic() - called)))
            left = (await shop.app.ainspector.type_stats("work")).parked
    middle = statistics.median(waits)
    most = f"{max(waits):.0f} ms at most"
    print(f"a newcomer waits {middle:.0f} ms (median of {calls}), {most}; {left:,} are parked")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parked", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["speed", "newcomer", "audit", "memory"])
    args = parser.parse_args()
    if "speed" in args.only:
        for seconds in (0.001, 0.0):
            asyncio.run(speed(seconds, args.tasks, args.rounds))
    if "newcomer" in args.only:
        asyncio.run(newcomer(args.parked, 10))
    if "audit" in args.only:
        audit(args.parked)
    if "memory" in args.only:
        memory(args.parked)


if __name__ == "__main__":
    main()
