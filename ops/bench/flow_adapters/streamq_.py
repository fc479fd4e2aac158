"""streamq: a flow for each graph; `streamq worker` with one process of 100 slots, and its daemon."""

from __future__ import annotations

import asyncio
import os
import sys

import flow_common
import record

from streamq import StreamQ
from streamq.cli import main as cli

app = StreamQ("bench-flows", flow_common.URL)


@app.task
async def number(n: int) -> int:
    return n


@app.task
async def end(value: int | list[int], stamp: int) -> None:
    record.mark(stamp)


def work() -> None:
    os.environ["STREAMQ_URL"] = flow_common.URL
    sys.exit(cli(["worker", "streamq_:app", "--log-level", "error", "--with-daemon"]))


async def chain(stamp: int) -> None:
    flow = app.flow("chain")
    last = flow.add(number.bind(flow.add(number.bind(1)).output))
    flow.add(end.bind(last.output, stamp))
    await flow.astart()


async def join(size: int, stamp: int) -> None:
    flow = app.flow("join")
    parts = [flow.add(number.bind(n)).output for n in range(size)]
    flow.add(end.bind(parts, stamp))
    await flow.astart()


async def spread(size: int, stamp: int) -> None:
    flow = app.flow("map")
    parts = flow.map(number, range(size))
    flow.add(end.bind(parts.output, stamp))
    await flow.astart()


async def run(kind: str, count: int, size: int, stamp: int) -> None:
    for begun in range(0, count, 100):
        some = range(min(100, count - begun))
        if kind == "chain":
            await asyncio.gather(*(chain(stamp) for _ in some))
        else:
            await asyncio.gather(*((join if kind == "join" else spread)(size, stamp) for _ in some))


def start(kind: str, count: int, size: int, stamp: int) -> None:
    asyncio.run(run(kind, count, size, stamp))


if __name__ == "__main__":
    flow_common.main(work=work, start=start)
