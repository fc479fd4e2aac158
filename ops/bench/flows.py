"""What flows cost: the server's time by script, and how fast chains and maps run beside plain tasks.

    python ops/bench/flows.py [--url URL] [--chains 300] [--children 1000] [--rounds 3]

Server time is that of the command that runs a script, from INFO commandstats, over many calls of it alone.
Speeds are of one worker in the same process; rounds of flows and of plain tasks take turns, and medians are
printed.
"""

# ruff: noqa: SLF001 - it measures parts that no program calls
from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from streamq import StreamQ, envelope
from streamq.app.flow_parts import parts as parts_of
from streamq.app.task_type import TaskType
from streamq.calls import flows as calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.worker import Source
from streamq.embedded import EmbeddedServer
from streamq.flows import needs
from streamq.flows.advancing import RELEASED
from streamq.keys import FLOW_PAGE, TypeKeys, shard_keys, type_keys
from streamq.model.effect import NodeResult
from streamq.model.outcome import Completed, Settlement
from streamq.transport.sync_transport import SyncTransport
from streamq.worker.settler import MOST_NODES

STEP = "first"


def app_at(url: str) -> StreamQ:
    app = StreamQ("bench-flows", url)

    @app.task
    async def first(n: int) -> int:
        return n

    @app.task
    async def then(n: int) -> int:
        return n

    return app


def server_us(app: StreamQ, some: list[Call[object]]) -> float:
    """Microseconds of the server for a call, the mean of some that are sent one after the other."""
    transport = app.inspector.transport

    def spent() -> int:
        info = transport.run(Call(None, (), ("INFO", "commandstats"), lambda raw: raw.decode()))
        rows = [row for row in info.splitlines() if row.startswith("cmdstat_evalsha")]
        return sum(int(row.partition("usec=")[2].partition(",")[0]) for row in rows)

    transport.run(some[0])
    before = spent()
    for one in some[1:]:
        transport.run(one)
    return (spent() - before) / (len(some) - 1)


def scripts(app: StreamQ, number: int = 200) -> None:
    s = shard_keys(app.name, 0)
    t = type_keys(app.name, 0, STEP)
    wf = app.flow("f")
    wf.map(_task(app), range(FLOW_PAGE))
    parts = list(parts_of(wf._declared(), "", {}))
    page = parts[-1]
    flows = [f"{n}-{n:012d}" for n in range(number)]
    build = [calls.build_part(s, one, page.page, page.record, page.items, running=False) for one in flows]
    print(f"build a page of {FLOW_PAGE} nodes: {server_us(app, build):.0f} us")
    handles = []
    for _ in range(number):
        chain = app.flow("chain")
        node = chain.add(_task(app).bind(1))
        chain.add(_task(app).bind(node.output))
        handles.append(chain.start())
    locals_ = [one.id.rpartition(":")[2] for one in handles]
    for one in locals_:  # as if the first node had ended
        app.inspector.transport.run(Call(None, (s.inbox,), ("ZADD", s.inbox, 1, f"{one} 0 c"), int))
    advance = [calls.advance(s, one, ["0 c"]) for one in locals_]
    print(f"advance one node: {server_us(app, advance):.0f} us")
    release = [calls.release(t, s, one, "0", [1]) for one in locals_]
    print(f"release one node: {server_us(app, release):.0f} us")
    if hasattr(calls, "step"):
        scripts_of_step(app, number)
    big = app.flow("map")
    big.map(_task(app), range(10_000))
    some = []
    for _ in range(20):
        one = big.start().id.rpartition(":")[2]
        for child in range(1, 201):
            row = f"{one} {child} c"
            app.inspector.transport.run(Call(None, (s.inbox,), ("ZADD", s.inbox, 1, row), int))
        some.append(calls.advance(s, one, [f"{child} c" for child in range(1, 201)]))
    print(f"advance 200 children of a map of 10,000, and let 200 more run: {server_us(app, some):.0f} us")
    cancel = [calls.mark(s, one.args[0], "cancel") for one in some]  # type: ignore[arg-type]
    print(f"cancel a flow with 9,600 nodes that wait: {server_us(app, cancel):.0f} us")


def scripts_of_step(app: StreamQ, number: int) -> None:
    s, t = shard_keys(app.name, 0), type_keys(app.name, 0, STEP)
    steps = []
    for _ in range(number):
        chain = app.flow("chain")
        chain.add(_task(app).bind(chain.add(_task(app).bind(1)).output))
        one = chain.start().id.rpartition(":")[2]
        app.inspector.transport.run(Call(None, (s.inbox,), ("ZADD", s.inbox, 1, f"{one} 0 c"), int))
        steps.append(calls.step(t, s, one, "0", ["0 c"]))
    print(f"both in one step: {server_us(app, steps):.0f} us")
    chain = app.flow("chain")
    chain.add(_task(app).bind(chain.add(_task(app).bind(1)).output))
    [part] = parts_of(chain._declared(), "", {})
    about = calls.Beginning("", "", 2, "")
    starts = [
        calls.start(t, s, f"{n + 1}-{n:012d}", part.page, about, part.record, part.items)
        for n in range(number)
    ]
    print(f"store and start a chain of two: {server_us(app, starts):.0f} us")


def scripts_of_children(app: StreamQ, rounds: int = 20) -> None:
    """The largest calls that a worker makes for the children of a map of 10,000. In processor time, as other
    work on the machine would be counted into each of them."""
    s, t, transport = shard_keys(app.name, 0), type_keys(app.name, 0, STEP), app.inspector.transport
    transport.run(worker_calls.groups(t.streams))
    big = app.flow("map")
    big.map(_task(app), range(10_000))
    releases, settles = [], []
    for n in range(rounds):
        one = big.start().id.rpartition(":")[2]
        rows = [f"{child} c" for child in range(1, FLOW_PAGE + 1)]
        for row in rows:
            transport.run(Call(None, (s.inbox,), ("ZADD", s.inbox, 1, f"{one} {row}"), int))
        transport.run(calls.advance(s, one, rows))
        ready = range(1 + 2 * FLOW_PAGE, 1 + 2 * FLOW_PAGE + RELEASED)  # 400 run at once
        releases.append(calls.release(t, s, one, "0.2", ready, 0, 1))
        settles.append(worker_calls.settle(t, s, "bench", n + 1, _ended(transport, t, one)))
    print(f"settle {MOST_NODES} children: {processor_us(app, settles):.0f} us")
    print(f"release {RELEASED} children: {processor_us(app, releases):.0f} us")


def processor_us(app: StreamQ, some: Sequence[Call[Any]]) -> float:
    """Microseconds of the server's processor for a call, the mean of some that are sent one after the
    other."""
    transport = app.inspector.transport

    def spent() -> float:
        info = transport.run(Call(None, (), ("INFO", "cpu"), lambda raw: raw.decode()))
        rows = dict(row.split(":") for row in info.splitlines() if ":" in row)
        return sum(float(rows[f"used_cpu_{kind}_main_thread"]) for kind in ("sys", "user"))

    transport.run(some[0])
    before = spent()
    for one in some[1:]:
        transport.run(one)
    return (spent() - before) / (len(some) - 1) * 1e6


def _ended(transport: SyncTransport, t: TypeKeys, flow: str) -> list[Settlement]:
    """Take the children of a flow that were released, as if their handlers had returned."""
    found: list[Settlement] = []
    while len(found) < MOST_NODES:
        sources = [Source(t, letter, MOST_NODES) for letter in "hnl"]
        _, fetched = transport.run(worker_calls.fetch("bench", MOST_NODES, sources))
        deliveries = [envelope.decode(t.type, t.shard, entry) for _, entries in fetched for entry in entries]
        assert deliveries, "no child is ready"
        for one in deliveries:
            node = needs.read(one.node)
            if node.flow == flow:
                effects = (NodeResult(flow, node.number, 0, expanded=False),)
                found.append(Settlement(one.place, one.local, Completed(b"1", 3_600_000), True, effects))
    return found[:MOST_NODES]


def _task(app: StreamQ) -> TaskType[..., int, object]:
    return TaskType(app._enqueuer, app.registry.handlers[STEP])


async def speed(app: StreamQ, chains: int, children: int, rounds: int) -> None:
    task = _task(app)

    async def plain_chain() -> None:
        async def one(n: int) -> None:
            for _ in range(3):
                await (await task.aenqueue(n)).aresult(120)

        await asyncio.gather(*map(one, range(chains)))

    async def flow_chain() -> None:
        async def one(n: int) -> None:
            wf = app.flow("chain")
            node = wf.add(task.bind(n))
            wf.add(task.bind(wf.add(task.bind(node.output)).output))
            await (await wf.astart()).aresult(120)

        await asyncio.gather(*map(one, range(chains)))

    async def plain_many() -> None:
        handles = await app.aenqueue_many([task.bind(n) for n in range(children)])
        await asyncio.gather(*(handle.aresult(120) for handle in handles))

    async def flow_map() -> None:
        wf = app.flow("map")
        wf.map(task, range(children))
        handle = await wf.astart()
        await handle.aresult(120)

    async with app.run_worker():
        for what, number, plain, flow in (
            ("chain of three", 3 * chains, plain_chain, flow_chain),
            (f"map of {children:,}", children, plain_many, flow_map),
        ):
            found = [
                (await _per_second(number, plain), await _per_second(number, flow)) for _ in range(rounds)
            ]
            before, after = (statistics.median(one[n].rate for one in found) for n in (0, 1))
            print(f"{what}: {after:,.0f} tasks/s, plain tasks {before:,.0f}/s, {after / before:.2f} x")
            before, after = (statistics.median(one[n].cpu_us for one in found) for n in (0, 1))
            print(f"    processor time of worker and program: {after:,.0f} us a task, plain {before:,.0f} us")


class _Speed(NamedTuple):
    """Tasks a second, and the processor time of this process for one. The latter says the same while other
    work shares the processors."""

    rate: float
    cpu_us: float


async def _per_second(number: int, run: Callable[[], Awaitable[None]]) -> _Speed:
    began, used = time.perf_counter(), time.process_time()
    await run()
    used = time.process_time() - used
    return _Speed(number / (time.perf_counter() - began), used / number * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--children", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with EmbeddedServer() as server:
        url = args.url or server.url
        scripts(app_at(url))
        scripts_of_children(app_at(url))
        app = app_at(url)
        app.inspector.transport.run(Call(None, (), ("FLUSHDB",), str))
        asyncio.run(speed(app_at(url), args.chains, args.children, args.rounds))


if __name__ == "__main__":
    main()
